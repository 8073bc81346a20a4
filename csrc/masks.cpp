// iBOT's block masks of a pack: which views, how much of each, which patches.
// Specification: aqqua/plan/masks.py, plan_masks_reference. Test: tests/plan/test_masks.py.
//
// Every number is a double and goes through the operations of the specification in their order, so
// the masks are equal bit for bit. An attempt draws its four words only when it is made: the
// specification draws those of all 64 beforehand, and few views need more than a dozen.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "philox.hpp"

namespace py = pybind11;

namespace {

constexpr const char *kPlanMasks = "plan_masks";
constexpr int64_t kMinBlock = 4;      // patches; MIN_BLOCK
constexpr int kAttempts = 10;         // to place one block; ATTEMPTS
constexpr uint32_t kDraws = 64;       // attempts a view has draws for; ATTEMPTS_DRAWN
constexpr int64_t kQuantiles = 4096;  // of the aspect; aqqua.plan.cut.QUANTILES
constexpr int64_t kMostPatches = std::numeric_limits<int32_t>::max();  // of a pack

using std::to_string;

// Views and numbers of one call; the first n_global views are the global ones.
struct Job {
    const int32_t *grid_V2;
    const uint64_t *keys_G, *visits_G;
    int64_t n_views, n_global;
    uint64_t seed;
    double odds, low, high;
    const double *aspects_Q;

    int64_t patches(int64_t view) const {
        return int64_t(grid_V2[2 * view]) * int64_t(grid_V2[2 * view + 1]);
    }
    Words draw(int64_t view, Purpose purpose, uint32_t block) const {
        return draws(seed, keys_G[view], uint32_t(visits_G[view]), purpose, block);
    }
};

struct Result {
    std::vector<int64_t> masked_M;
    std::vector<float> weight_M;
};

// A view that may be masked. Those with the smallest draws are, in this order; each takes its bin.
struct Candidate {
    uint32_t draw;
    uint64_t key;
    int64_t view;
    double place_in_bin;

    bool operator<(const Candidate &other) const {
        return std::tie(draw, key, view) < std::tie(other.draw, other.key, other.view);
    }
};

std::vector<Candidate> choose(const Job &job) {
    std::vector<Candidate> chosen;
    for (int64_t v = 0; v < job.n_global; ++v) {
        if (job.patches(v) < kMinBlock) continue;
        const Words words = job.draw(v, Purpose::kMaskChoice, 0);
        chosen.push_back({words[0] >> 8, job.keys_G[v], v, uniform(words[1])});
    }
    std::sort(chosen.begin(), chosen.end());
    const int64_t wanted = job.odds > 0 ? std::max<int64_t>(int64_t(double(job.n_global) * job.odds), 1) : 0;
    if (wanted < int64_t(chosen.size())) chosen.resize(size_t(wanted));
    return chosen;
}

// Patches of a rectangle that are not hidden yet; `first` is its upper left corner.
int64_t count_open(const bool *first, int64_t stride, int64_t height, int64_t width) {
    int64_t hidden = 0;
    for (int64_t y = 0; y < height; ++y, first += stride) hidden += std::count(first, first + width, true);
    return height * width - hidden;
}

// Hides rectangles until `wanted` patches are or no further one fits; returns how many, at least one.
int64_t hide_blocks(const Job &job, int64_t view, int64_t wanted, bool *mask) {
    const int64_t rows = job.grid_V2[2 * view], columns = job.grid_V2[2 * view + 1];
    int64_t hidden = 0;
    int failures = 0;
    for (uint32_t attempt = 0; attempt < kDraws && hidden < wanted && failures < kAttempts; ++attempt) {
        const Words words = job.draw(view, Purpose::kMaskBlocks, attempt);
        const int64_t left_over = wanted - hidden, smallest = std::min(kMinBlock, left_over);
        const double area = double(smallest) + double(left_over - smallest) * uniform(words[0]);
        const double aspect = job.aspects_Q[int64_t(uniform(words[1]) * double(kQuantiles))];
        // rint rounds halves to even, as Python's round does.
        const double exact_height = std::rint(std::sqrt(area * aspect));
        const double exact_width = std::rint(std::sqrt(area / aspect));
        ++failures;
        if (!(0 < exact_height && exact_height <= double(rows) && 0 < exact_width &&
              exact_width <= double(columns)))
            continue;
        const int64_t height = int64_t(exact_height), width = int64_t(exact_width);
        const int64_t top = int64_t(uniform(words[2]) * double(rows - height + 1));
        const int64_t left = int64_t(uniform(words[3]) * double(columns - width + 1));
        bool *first = mask + top * columns + left;
        const int64_t open = count_open(first, columns, height, width);
        if (open == 0 || open > left_over) continue;
        for (int64_t y = 0; y < height; ++y) std::fill_n(first + y * columns, width, true);
        hidden += open;
        failures = 0;
    }
    if (hidden > 0) return hidden;
    const Words last = job.draw(view, Purpose::kMaskBlocks, kDraws - 1);
    mask[int64_t(uniform(last[2]) * double(rows)) * columns + int64_t(uniform(last[3]) * double(columns))] =
        true;
    return 1;
}

// Hides patches in `mask_N`, which comes in all false, and lists them in ascending order.
Result plan(const Job &job, bool *mask_N) {
    std::vector<int64_t> start(size_t(job.n_global) + 1, 0), hidden(size_t(job.n_global), 0);
    for (int64_t v = 0; v < job.n_global; ++v) start[size_t(v) + 1] = start[size_t(v)] + job.patches(v);
    const std::vector<Candidate> chosen = choose(job);
    int64_t total = 0;
    for (size_t bin = 0; bin < chosen.size(); ++bin) {
        const size_t v = size_t(chosen[bin].view);
        const double ratio = job.low + (job.high - job.low) * (double(bin) + chosen[bin].place_in_bin) /
                                           double(chosen.size());
        const int64_t wanted = int64_t(double(job.patches(int64_t(v))) * ratio);
        hidden[v] = hide_blocks(job, int64_t(v), wanted, mask_N + start[v]);
        total += hidden[v];
    }
    Result result;
    result.masked_M.reserve(size_t(total));
    result.weight_M.reserve(size_t(total));
    for (size_t v = 0; v < hidden.size(); ++v) {
        if (hidden[v] == 0) continue;
        const float weight = float(1.0 / double(hidden[v]));
        for (int64_t n = start[v]; n < start[v + 1]; ++n)
            if (mask_N[n]) {
                result.masked_M.push_back(n);
                result.weight_M.push_back(weight);
            }
    }
    return result;
}

void require(bool holds, const std::string &what, const std::string &got, const std::string &fix) {
    ::require(holds, kPlanMasks, what, got, fix);
}

// Patches of all views, once every grid and visit is known to be sane. Texts are made for errors only.
int64_t checked_patches(const Job &job) {
    int64_t total = 0;
    for (int64_t v = 0; v < job.n_views; ++v) {
        const int32_t rows = job.grid_V2[2 * v], columns = job.grid_V2[2 * v + 1];
        if (rows < 1 || columns < 1)
            require(false, "every grid must be at least 1 x 1 patches",
                    to_string(rows) + " x " + to_string(columns), "leave the image out");
        total += job.patches(v);
        if (total > kMostPatches)
            require(false, "a pack must have fewer than 2**31 patches", to_string(total),
                    "lower data.pack_tokens");
    }
    const auto *end = job.visits_G + job.n_global;
    const auto *large = std::find_if(job.visits_G, end, [](uint64_t visit) { return visit >> 32 != 0; });
    if (large != end)
        require(false, "every visit must be below 2**32", to_string(*large), "start a new run");
    return total;
}

template <typename T>
py::array_t<T> array_of(const std::vector<T> &values) {
    return py::array_t<T>(py::ssize_t(values.size()), values.data());
}

py::tuple plan_masks(const py::array &grid_V2, const py::array &keys_G, const py::array &visits_G,
                     const py::object &seed, double odds, double low, double high,
                     const py::array &aspects_Q) {
    const int64_t n_views = grid_V2.ndim() ? grid_V2.shape(0) : 0, n_global = int64_t(keys_G.size());
    const std::string fix = "take it from a Pack";
    require(n_global <= n_views, "global views must be among the " + to_string(n_views) + " views",
            to_string(n_global), fix);
    require(0 <= odds && odds <= 1, "odds must be 0 to 1", to_string(odds), "set masks.odds");
    require(0 <= low && low <= high && high <= 1, "ratio must be low, high with 0 <= low <= high <= 1",
            to_string(low) + ", " + to_string(high), "set masks.ratio");
    const int32_t *given = values_of<int32_t>(kPlanMasks, grid_V2, "grid_V2", {n_views, 2}, fix);
    // A copy: the grids that were counted must be those that are filled, even if another thread writes to
    // the array meanwhile.
    const std::vector<int32_t> grids(given, given + 2 * n_views);
    const Job job{grids.data(),
                  values_of<uint64_t>(kPlanMasks, keys_G, "keys_G", {n_global}, fix),
                  values_of<uint64_t>(kPlanMasks, visits_G, "visits_G", {n_global}, fix),
                  n_views,
                  n_global,
                  seed_of(kPlanMasks, seed),
                  odds,
                  low,
                  high,
                  values_of<double>(kPlanMasks, aspects_Q, "aspects_Q", {kQuantiles}, "call log_uniform")};
    const auto *end = job.aspects_Q + kQuantiles;
    const auto *bad =
        std::find_if(job.aspects_Q, end, [](double a) { return !std::isfinite(a) || a <= 0; });
    if (bad != end)
        require(false, "aspects must be positive", to_string(*bad), "call log_uniform");
    py::array_t<bool> mask_N(checked_patches(job));
    bool *mask = mask_N.mutable_data();
    Result result;
    {
        const py::gil_scoped_release release;
        std::fill_n(mask, mask_N.size(), false);
        result = plan(job, mask);
    }
    return py::make_tuple(mask_N, array_of(result.masked_M), array_of(result.weight_M));
}

}  // namespace

void register_masks(py::module_ &module) {
    using py::operator""_a;
    module.def("plan_masks", &plan_masks, py::kw_only(), "grid_V2"_a, "keys_G"_a, "visits_G"_a, "seed"_a,
               "odds"_a, "low"_a, "high"_a, "aspects_Q"_a);
}
