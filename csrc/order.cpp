// The order of the data: the blocks of a lane's window, and its images repeated, dropped and mixed.
// Specification: aqqua/plan/order.py, lane_blocks_reference and mix_window_reference.
// Test: tests/plan/test_order.py. Timing: bench/data/order.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "feistel.hpp"
#include "philox.hpp"

namespace py = pybind11;

namespace {

constexpr int64_t kMostLanes = 65536, kMostWindowBlocks = 64;
constexpr int64_t kWindows = int64_t(1) << 39;  // of a lane: their streams lie below the bit that marks them
constexpr int kCopyShift = 24;                  // a visit is epoch + copy << 24
constexpr int64_t kEpochs = int64_t(1) << kCopyShift;
constexpr double kMostCopies = 255;
constexpr int64_t kMostEntries = int64_t(1) << 24;  // of a window: three quarters of a GB while it is mixed

std::string text(int64_t value) { return std::to_string(value); }

std::string text(double value) {  // as Python's format(value, "g")
    if (std::isnan(value)) return "nan";
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", value);
    return digits;
}

// Where a window is: which of how many lanes, and its number there.
struct Place {
    int64_t lane, lanes, window;
};

Place place_of(const char *operation, const py::object &lane, int64_t lanes, const py::object &window) {
    return {whole_of(operation, lane, 0, lanes - 1, "lane must be 0 to lanes - 1", "take one of lanes_of_rank",
                     " of " + text(lanes)),
            lanes,
            whole_of(operation, window, 0, kWindows - 1, "window must be 0 to 2**39 - 1",
                     "go on from a LaneState")};
}

py::tuple lane_blocks(const py::object &blocks_of_dataset, const py::object &lanes_of_run,
                      const py::object &blocks_of_window, const py::object &lane_of_run,
                      const py::object &window_of_lane, const py::object &seed_of_run) {
    const char *name = "lane_blocks";
    const int64_t blocks = whole_of(name, blocks_of_dataset, 1, int64_t(1) << 62, "blocks must be 1 to 2**62",
                                    "take a dataset with images");
    const int64_t most_lanes = whole_of(name, lanes_of_run, 1, kMostLanes,
                                        "lanes must be 1 to " + text(kMostLanes), "set data.lanes");
    const auto [lane, lanes, window] = place_of(name, lane_of_run, most_lanes, window_of_lane);
    const int64_t window_blocks =
        whole_of(name, blocks_of_window, 1, kMostWindowBlocks,
                 "window_blocks must be 1 to " + text(kMostWindowBlocks), "set data.window_blocks");
    const uint64_t seed = seed_of(name, seed_of_run);
    const int64_t first = lane + lanes * (window * window_blocks);  // below 2**62
    const int64_t last_epoch = (first + lanes * (window_blocks - 1)) / blocks;
    require(last_epoch < kEpochs, name, "epochs must be below 2**24",
            text(last_epoch) + " in window " + text(window), "begin a new run");
    py::array_t<int64_t> block_B(window_blocks), epoch_B(window_blocks);
    int64_t *block = block_B.mutable_data(), *epoch = epoch_B.mutable_data();
    for (int64_t b = 0; b < window_blocks; ++b) {
        const int64_t place = first + lanes * b;
        epoch[b] = place / blocks;
        block[b] = int64_t(Permutation(uint64_t(blocks), seed, uint64_t(epoch[b]))(uint64_t(place % blocks)));
    }
    return py::make_tuple(block_B, epoch_B);
}

// The B blocks of a window, in its order.
struct Blocks {
    size_t count;
    const int64_t *block_B, *epoch_B, *images_B;
    std::vector<int64_t> first_B1;  // of each block among all images of the window, then their number

    int64_t images() const { return first_B1.back(); }
};

// How often each image is used; null where it is once.
struct Weighing {
    const uint64_t *key_I = nullptr;
    const double *weight_I = nullptr;
    uint64_t seed = 0;

    // Its weight on average, never off by one or more.
    int64_t copies(int64_t image, int64_t epoch) const {
        if (!weight_I) return 1;
        const double draw = uniform(draws(seed, key_I[image], uint32_t(epoch), Purpose::kRepeat, 0)[0]);
        const double wanted = std::floor(weight_I[image] + draw);
        return int64_t(wanted < kMostCopies ? wanted : kMostCopies);
    }
};

struct Use {
    uint32_t block, image;  // both counted in the window
    uint8_t copy;
};

Blocks blocks_of(const py::array &block, const py::array &epoch, const py::array &images) {
    const char *name = "mix_window", *fix = "hand over what lane_blocks gave";
    const int64_t count = int64_t(block.size());
    Blocks blocks{size_t(count), values_of<int64_t>(name, block, "block_B", {count}, fix),
                  values_of<int64_t>(name, epoch, "epoch_B", {count}, fix),
                  values_of<int64_t>(name, images, "images_B", {count}, fix), {0}};
    for (size_t b = 0; b < blocks.count; ++b) {
        const int64_t epoch_b = blocks.epoch_B[b], images_b = blocks.images_B[b];
        require(epoch_b >= 0 && epoch_b < kEpochs, name, "epochs must be 0 to 2**24 - 1", text(epoch_b),
                "take them from lane_blocks");
        require(images_b >= 0 && images_b <= kMostEntries - blocks.images(), name,
                "images of a window must be 0 to 2**24", text(images_b) + " in a block",
                "lower data.window_blocks");
        blocks.first_B1.push_back(blocks.images() + images_b);
    }
    return blocks;
}

Weighing weighing_of(const Blocks &blocks, uint64_t seed, const std::optional<py::array> &keys,
                     const std::optional<py::array> &weights) {
    const char *name = "mix_window", *fix = "give one for each image";
    require(keys.has_value() == weights.has_value(), name, "keys and weights must come together",
            weights ? "weights alone" : "keys alone", "give both or neither");
    if (!weights) return {};
    const Weighing weighing{values_of<uint64_t>(name, *keys, "key_I", {blocks.images()}, fix),
                            values_of<double>(name, *weights, "weight_I", {blocks.images()}, fix), seed};
    for (size_t b = 0; b < blocks.count; ++b)
        for (int64_t i = blocks.first_B1[b]; i < blocks.first_B1[b + 1]; ++i) {
            const double weight = weighing.weight_I[i];
            if (!(weight >= 0 && weight < INFINITY))
                require(false, name, "weights must be finite and at least 0",
                        text(weight) + " in row " + text(i - blocks.first_B1[b]) + " of block " +
                            text(blocks.block_B[b]),
                        "correct the weights");
        }
    return weighing;
}

std::vector<Use> uses_of(const Blocks &blocks, const Weighing &weighing) {
    std::vector<Use> uses;
    uses.reserve(size_t(blocks.images()));
    for (size_t b = 0; b < blocks.count; ++b)
        for (int64_t i = blocks.first_B1[b]; i < blocks.first_B1[b + 1]; ++i) {
            const int64_t copies = weighing.copies(i, blocks.epoch_B[b]);
            for (int64_t copy = 0; copy < copies; ++copy)
                uses.push_back({uint32_t(b), uint32_t(i), uint8_t(copy)});
            if (int64_t(uses.size()) > kMostEntries)
                require(false, "mix_window", "entries of a window must be 0 to 2**24",
                        text(int64_t(uses.size())), "lower the weights or data.window_blocks");
        }
    return uses;
}

py::tuple mix_window(const py::array &block_B, const py::array &epoch_B, const py::array &images_B,
                     const py::object &lane_of_run, const py::object &window_of_lane,
                     const py::object &seed_of_run, const std::optional<py::array> &key_I,
                     const std::optional<py::array> &weight_I) {
    const Place place = place_of("mix_window", lane_of_run, kMostLanes, window_of_lane);
    const uint64_t seed = seed_of("mix_window", seed_of_run);
    const Blocks blocks = blocks_of(block_B, epoch_B, images_B);
    const Weighing weighing = weighing_of(blocks, seed, key_I, weight_I);
    std::vector<Use> uses;
    {
        py::gil_scoped_release release;
        uses = uses_of(blocks, weighing);
    }
    const auto entries = py::ssize_t(uses.size());
    py::array_t<int64_t> block_E(entries), row_E(entries), image_E(entries);
    py::array_t<uint64_t> visit_E(entries);
    int64_t *block = block_E.mutable_data(), *row = row_E.mutable_data(), *image = image_E.mutable_data();
    uint64_t *visit = visit_E.mutable_data();
    if (entries > 0) {
        py::gil_scoped_release release;
        // Bit 39 keeps the streams of windows apart from those of epochs.
        const uint64_t stream = (uint64_t(place.lane) << 40) | (uint64_t(1) << 39) | uint64_t(place.window);
        const Permutation order(uint64_t(entries), seed, stream);
        for (py::ssize_t e = 0; e < entries; ++e) {
            const Use use = uses[order(uint64_t(e))];
            block[e] = blocks.block_B[use.block];
            row[e] = use.image - blocks.first_B1[use.block];
            image[e] = use.image;
            visit[e] = uint64_t(blocks.epoch_B[use.block]) + (uint64_t(use.copy) << kCopyShift);
        }
    }
    return py::make_tuple(block_E, row_E, visit_E, image_E);
}

}  // namespace

void register_order(py::module_ &module) {
    module.def("lane_blocks", &lane_blocks, py::kw_only(), py::arg("blocks"), py::arg("lanes"),
               py::arg("window_blocks"), py::arg("lane"), py::arg("window"), py::arg("seed"));
    module.def("mix_window", &mix_window, py::arg("block_B"), py::arg("epoch_B"), py::arg("images_B"),
               py::kw_only(), py::arg("lane"), py::arg("window"), py::arg("seed"),
               py::arg("key_I") = py::none(), py::arg("weight_I") = py::none());
}
