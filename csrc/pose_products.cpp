// How small pictures of bytes agree in each of eight poses: sums of products, whole numbers.
// Specification: correlations of aqqua/curate/copies/looks.py, poses of aqqua/curate/images/descriptor.py.
// Not the second picture is turned but the first, the other way, once for all pairs that follow each other.
// Test: tests/curate/copies/test_looks.py. Timing: bench/data/candidates.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "inline.hpp"

namespace py = pybind11;

namespace {

constexpr int kSide = 16;  // cells of a small picture, each way
constexpr int kCells = kSide * kSide;
constexpr int kPoses = 8;

// Where the value of each cell of a picture goes when it is put so that b in a pose fits it: the inverse of
// `poses` of descriptor.py.
struct PoseTable {
    int from[kPoses][kCells];

    PoseTable() {
        for (int pose = 0; pose < kPoses; ++pose)
            for (int y = 0; y < kSide; ++y)
                for (int x = 0; x < kSide; ++x) {
                    int row = y, column = x;  // of the pose: np.rot90 quarter times, then perhaps swapped
                    if (pose >= 4) std::swap(row, column);
                    for (int quarter = 0; quarter < pose % 4; ++quarter) {
                        const int before = row;
                        row = column, column = kSide - 1 - before;
                    }
                    // The pose's cell (y, x) is the picture's (row, column).
                    from[pose][row * kSide + column] = y * kSide + x;
                }
    }
};

AQQUA_HOT void add_up(const int16_t *a, const int16_t *b, int32_t *products) {
    for (int pose = 0; pose < kPoses; ++pose) {
        int32_t sum = 0;
        for (int k = 0; k < kCells; ++k) sum += int32_t(a[pose * kCells + k]) * int32_t(b[k]);
        products[pose] = sum;
    }
}

void multiply(const uint8_t *a, const uint8_t *b, const int64_t *a_P, const int64_t *b_P, int64_t first,
              int64_t last, const PoseTable &table, int32_t *products) {
    int16_t posed[kPoses * kCells], other[kCells];
    int64_t held = -1;
    for (int64_t p = first; p < last; ++p) {
        if (a_P[p] != held) {
            held = a_P[p];
            for (int pose = 0; pose < kPoses; ++pose)
                for (int k = 0; k < kCells; ++k)
                    posed[pose * kCells + k] = int16_t(a[held * kCells + table.from[pose][k]]);
        }
        for (int k = 0; k < kCells; ++k) other[k] = int16_t(b[b_P[p] * kCells + k]);
        add_up(posed, other, products + p * kPoses);
    }
}

void check_rows(const char *name, const int64_t *rows, int64_t pairs, int64_t pictures, const char *what) {
    for (int64_t p = 0; p < pairs; ++p)
        require(rows[p] >= 0 && rows[p] < pictures, name, std::string(what) + " must be 0 to pictures - 1",
                std::to_string(rows[p]), "take them from the pictures given");
}

py::array_t<int32_t> pose_products(const py::array &a_IC, const py::array &b_JC, const py::array &a_P,
                                   const py::array &b_P, const py::object &threads_of_call) {
    const char *name = "pose_products", *fix = "give pictures of 256 bytes, one row each";
    const int64_t ours = a_IC.ndim() ? a_IC.shape(0) : 0, theirs = b_JC.ndim() ? b_JC.shape(0) : 0;
    const int64_t pairs = int64_t(a_P.size());
    const uint8_t *a = values_of<uint8_t>(name, a_IC, "a_IC", {ours, kCells}, fix);
    const uint8_t *b = values_of<uint8_t>(name, b_JC, "b_JC", {theirs, kCells}, fix);
    const int64_t *of_a = values_of<int64_t>(name, a_P, "a_P", {pairs}, "give one row for each pair");
    const int64_t *of_b = values_of<int64_t>(name, b_P, "b_P", {pairs}, "give one row for each pair");
    check_rows(name, of_a, pairs, ours, "a_P");
    check_rows(name, of_b, pairs, theirs, "b_P");
    const int64_t threads = whole_of(name, threads_of_call, 1, 1024, "threads must be 1 to 1024", "set 1");
    py::array_t<int32_t> products({pairs, int64_t(kPoses)});
    int32_t *out = products.mutable_data();
    {
        py::gil_scoped_release release;
        static const PoseTable table;
        constexpr int64_t kRun = 4096;
        std::atomic<int64_t> next{0};
        const auto work = [&] {
            for (int64_t p = next.fetch_add(kRun); p < pairs; p = next.fetch_add(kRun))
                multiply(a, b, of_a, of_b, p, std::min(p + kRun, pairs), table, out);
        };
        std::vector<std::thread> others;
        for (int64_t t = 1; t < std::min(threads, (pairs + kRun - 1) / kRun); ++t) others.emplace_back(work);
        work();
        for (auto &other : others) other.join();
    }
    return products;
}

}  // namespace

void register_pose_products(py::module_ &module) {
    module.def("pose_products", &pose_products, py::arg("a_IC"), py::arg("b_JC"), py::arg("a_P"),
               py::arg("b_P"), py::kw_only(), py::arg("threads") = 1);
}
