// Which images of a large group may be copies of each other: pairs of like keys whose pictures may agree.
// Specification: candidates of aqqua/curate/copies/looks.py, by what leaves.py makes keys of.
//
// Keys lie in leaves of like rows. Two leaves whose boxes are too far apart are passed over; else the rows of
// the one that lie near enough to the box of the other are held against all its rows, lane by lane, until all
// of them are known to be too far. Of pairs that are near, the pictures must be able to agree in some pose.
// Test: tests/curate/copies/test_leaves.py. Timing: bench/data/candidates.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "arrays.hpp"
#include "inline.hpp"
#include "spectra.hpp"

namespace py = pybind11;

namespace {

constexpr int kRows = 64;    // of a leaf
constexpr int kLanes = 16;   // held against at once
constexpr int kAtOnce = 6;   // keys between two looks whether all are too far

typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
constexpr int kGroups = kRows / kLanes;
constexpr float kFar = 1e6f;  // what lies outside one bound by its least share is outside all of them

// B leaves of K keys of 64 rows; those of the rows that the last leaf lacks are infinite.
struct Leaves {
    const float *keys;
    int64_t count, width, apart, rows;
    float limit;                       // reach, squared
    float reach;
    std::vector<float> centre, half;  // [B, K], the box of each

    const float *of(int64_t leaf) const { return keys + leaf * width * kRows; }
    uint64_t filled(int64_t leaf) const {  // bits of the rows that it has
        return ~uint64_t(0) >> (kRows - std::min<int64_t>(rows - leaf * kRows, kRows));
    }
};

AQQUA_INLINE void load(Lanes &lanes, const float *keys) { std::memcpy(&lanes, keys, sizeof lanes); }

// Comparisons of lanes are what GCC 12 does one by one, so what follows does without them.
AQQUA_INLINE void make_absolute(Lanes &lanes) { lanes = (Lanes)((Words)lanes & 0x7fffffffu); }

// Adds what is beyond a bound, many times over.
AQQUA_INLINE void add_excess(Lanes &sum, Lanes &way, float bound) {
    make_absolute(way);
    const Lanes over = way - bound;
    Lanes size = over;
    make_absolute(size);
    sum += kFar * (over + size);  // twice `over`, or 0
}

// Whether one of 64 sums is below a limit: the sign of their difference.
AQQUA_INLINE bool some_below(const Lanes &s0, const Lanes &s1, const Lanes &s2, const Lanes &s3,
                             float limit) {
    const Words one = (Words)(s0 - limit) | (Words)(s1 - limit);
    const Words signs = one | ((Words)(s2 - limit) | (Words)(s3 - limit));
    uint64_t pairs[kLanes / 2], both = 0;
    std::memcpy(pairs, &signs, sizeof pairs);
    for (uint64_t pair : pairs) both |= pair;
    return (both & 0x8000000080000000u) != 0;
}

AQQUA_INLINE uint64_t bits_below(const Lanes &s0, const Lanes &s1, const Lanes &s2, const Lanes &s3,
                                 float limit) {
    float sums[kRows];
    std::memcpy(sums, &s0, sizeof s0), std::memcpy(sums + kLanes, &s1, sizeof s1);
    std::memcpy(sums + 2 * kLanes, &s2, sizeof s2), std::memcpy(sums + 3 * kLanes, &s3, sizeof s3);
    uint64_t bits = 0;
    for (int r = 0; r < kRows; ++r) bits |= uint64_t(sums[r] < limit) << r;
    return bits;
}

void find_boxes(Leaves &leaves) {
    leaves.centre.resize(size_t(leaves.count * leaves.width));
    leaves.half.resize(leaves.centre.size());
    for (int64_t line = 0; line < leaves.count * leaves.width; ++line) {
        const float *keys = leaves.keys + line * kRows;
        const int64_t rows = std::min<int64_t>(leaves.rows - line / leaves.width * kRows, kRows);
        const auto [low, high] = std::minmax_element(keys, keys + rows);
        leaves.centre[size_t(line)] = (*low + *high) / 2, leaves.half[size_t(line)] = (*high - *low) / 2;
    }
}

// Whether the boxes of two leaves may hold rows within reach of each other.
bool touch(const Leaves &leaves, int64_t a, int64_t b) {
    const size_t at_a = size_t(a * leaves.width), at_b = size_t(b * leaves.width);
    float square = 0;
    for (size_t k = 0; k < size_t(leaves.width); ++k) {
        const float way = std::fabs(leaves.centre[at_a + k] - leaves.centre[at_b + k]);
        const float gap = std::max(way - leaves.half[at_a + k] - leaves.half[at_b + k], 0.0f);
        if (gap > leaves.reach) return false;
        if (int64_t(k) >= leaves.apart) square += gap * gap;
    }
    return square <= leaves.limit;
}

// Of the rows of one leaf, those near enough to the box of another: bits.
AQQUA_HOT uint64_t rows_near_box(const float *keys, const float *centre, const float *half, int64_t width,
                                 int64_t apart, float reach, float limit) {
    Lanes sums[kGroups];
    for (int g = 0; g < kGroups; ++g) {
        Lanes sum = {}, way;
        for (int64_t k = 0; k < apart; ++k) {
            load(way, keys + k * kRows + g * kLanes);
            way -= centre[k];
            add_excess(sum, way, half[k] + reach);
        }
        for (int64_t k = apart; k < width; ++k) {
            load(way, keys + k * kRows + g * kLanes);
            way -= centre[k];
            make_absolute(way);
            way -= half[k];
            Lanes size = way;
            make_absolute(size);
            const Lanes twice = way + size;
            sum += 0.25f * (twice * twice);
        }
        sums[g] = sum;
    }
    return bits_below(sums[0], sums[1], sums[2], sums[3], limit);
}

AQQUA_INLINE void add_excess_of(Lanes &sum, const float *keys, float row, float reach) {
    Lanes way;
    load(way, keys);
    way -= row;
    add_excess(sum, way, reach);
}

AQQUA_INLINE void add_square_of(Lanes &sum, const float *keys, float row) {
    Lanes way;
    load(way, keys);
    way -= row;
    sum += way * way;
}

// Of the rows of a leaf, those within reach of one row: bits. GCC keeps an array of lanes in memory.
AQQUA_HOT uint64_t near_row(const float *keys, const float *row, int64_t width, int64_t apart, float reach,
                            float limit) {
    Lanes s0 = {}, s1 = {}, s2 = {}, s3 = {};
    for (int64_t k = 0; k < apart; ++k) {
        const float *at = keys + k * kRows;
        add_excess_of(s0, at, row[k], reach), add_excess_of(s1, at + kLanes, row[k], reach);
        add_excess_of(s2, at + 2 * kLanes, row[k], reach), add_excess_of(s3, at + 3 * kLanes, row[k], reach);
    }
    if (!some_below(s0, s1, s2, s3, limit)) return 0;
    for (int64_t first = apart; first < width; first += kAtOnce) {
        for (int64_t k = first; k < std::min(first + kAtOnce, width); ++k) {
            const float *at = keys + k * kRows;
            add_square_of(s0, at, row[k]), add_square_of(s1, at + kLanes, row[k]);
            add_square_of(s2, at + 2 * kLanes, row[k]), add_square_of(s3, at + 3 * kLanes, row[k]);
        }
        if (!some_below(s0, s1, s2, s3, limit)) return 0;
    }
    return bits_below(s0, s1, s2, s3, limit);
}

// Pairs of rows of one leaf with those of it and of all leaves behind it, by the first row, then the second.
struct LeafPairs {
    std::vector<int64_t> of_row[kRows];

    void find(const Leaves &leaves, const Spectra &spectra, int64_t a) {
        for (auto &rows : of_row) rows.clear();
        const float *ours = leaves.of(a);
        std::vector<float> row(size_t(leaves.width));
        for (int64_t b = a; b < leaves.count; ++b) {
            if (b != a && !touch(leaves, a, b)) continue;
            const size_t box = size_t(b * leaves.width);
            uint64_t rows = rows_near_box(ours, &leaves.centre[box], &leaves.half[box], leaves.width,
                                          leaves.apart, leaves.reach, leaves.limit);
            rows &= leaves.filled(a);
            for (; rows != 0; rows &= rows - 1) {
                const int r = __builtin_ctzll(rows);
                for (int64_t k = 0; k < leaves.width; ++k) row[size_t(k)] = ours[k * kRows + r];
                uint64_t found = near_row(leaves.of(b), row.data(), leaves.width, leaves.apart,
                                          leaves.reach, leaves.limit);
                found &= leaves.filled(b);
                if (b == a) found &= ~(~uint64_t(0) >> (kRows - 1 - r));  // those behind it
                if (found != 0) add_likely(spectra, a * kRows + r, b * kRows, found);
            }
        }
    }

    void add_likely(const Spectra &spectra, int64_t row, int64_t first, uint64_t found) {
        float turned[kLine];
        const float *line = spectra.lines + row * kLine;
        turn(line, turned);
        for (; found != 0; found &= found - 1) {
            const int64_t other = first + __builtin_ctzll(found);
            const float rest = spectra.rest[row] * spectra.rest[other];
            if (may_agree(line, turned, spectra.lines + other * kLine, rest, spectra.least))
                of_row[row % kRows].push_back(other);
        }
    }

    void append_to(std::vector<int64_t> &pairs, int64_t leaf) const {
        for (int r = 0; r < kRows; ++r)
                for (const int64_t other : of_row[r])
                pairs.push_back(leaf * kRows + r), pairs.push_back(other);
    }
};

// Pairs of all leaves from one to another, those of a leaf together.
std::vector<std::vector<int64_t>> pairs_of(const Leaves &leaves, const Spectra &spectra, int64_t first,
                                           int64_t last, int64_t threads) {
    std::vector<std::vector<int64_t>> found(size_t(last - first));
    std::atomic<int64_t> next{first};
    const auto work = [&] {
        LeafPairs pairs;
        for (int64_t a = next.fetch_add(1); a < last; a = next.fetch_add(1)) {
            pairs.find(leaves, spectra, a);
            pairs.append_to(found[size_t(a - first)], a);
        }
    };
    std::vector<std::thread> others;
    for (int64_t t = 1; t < std::min(threads, last - first); ++t) others.emplace_back(work);
    work();
    for (auto &other : others) other.join();
    return found;
}

Leaves leaves_of(const py::array &keys_BKR, int64_t rows, const py::object &apart, double reach) {
    const char *name = "near_keys", *fix = "pack rows in leaves of 64";
    const bool cubic = keys_BKR.ndim() == 3;
    const int64_t count = cubic ? keys_BKR.shape(0) : 0, width = cubic ? keys_BKR.shape(1) : 0;
    Leaves leaves;
    leaves.keys = values_of<float>(name, keys_BKR, "keys_BKR", {count, width, kRows}, fix);
    leaves.count = count, leaves.width = width, leaves.rows = rows;
    require((rows + kRows - 1) / kRows == count, name, "rows must fill all leaves but the last",
            std::to_string(rows) + " for " + std::to_string(count) + " leaves", fix);
    leaves.apart = whole_of(name, apart, 0, width, "apart must be 0 to the number of keys", "lower it");
    require(reach >= 0 && std::isfinite(reach), name, "reach must be finite and at least 0",
            std::to_string(reach), "set 1");
    leaves.reach = float(reach), leaves.limit = float(reach * reach);
    return leaves;
}

py::array_t<int64_t> near_keys(const py::array &keys_BKR, const py::array &lines_NS, const py::array &rest_N,
                               const py::object &apart, double reach, double correlation,
                               const py::object &first_of_call, const py::object &last_of_call,
                               const py::object &threads_of_call) {
    const char *name = "near_keys", *fix = "give one line for each row";
    const int64_t rows = int64_t(rest_N.size());
    Leaves leaves = leaves_of(keys_BKR, rows, apart, reach);
    const Spectra spectra{values_of<float>(name, lines_NS, "lines_NS", {rows, kLine}, fix),
                          values_of<float>(name, rest_N, "rest_N", {rows}, fix), float(correlation)};
    const std::string bounds = "leaves must be 0 to " + std::to_string(leaves.count) + ", in order";
    const int64_t first = whole_of(name, first_of_call, 0, leaves.count, bounds, "count them");
    const int64_t last = whole_of(name, last_of_call, first, leaves.count, bounds, "count them");
    const int64_t threads = whole_of(name, threads_of_call, 1, 1024, "threads must be 1 to 1024", "set 1");
    std::vector<std::vector<int64_t>> found;
    {
        py::gil_scoped_release release;
        find_boxes(leaves);
        found = pairs_of(leaves, spectra, first, last, threads);
    }
    size_t size = 0;
    for (const auto &pairs : found) size += pairs.size();
    py::array_t<int64_t> out({int64_t(size / 2), int64_t(2)});
    int64_t *to = out.mutable_data();
    for (const auto &pairs : found) to = std::copy(pairs.begin(), pairs.end(), to);
    return out;
}

}  // namespace

void register_near_keys(py::module_ &module) {
    module.def("near_keys", &near_keys, py::arg("keys_BKR"), py::arg("lines_NS"), py::arg("rest_N"),
               py::kw_only(), py::arg("apart"), py::arg("reach"), py::arg("correlation"), py::arg("first"),
               py::arg("last"), py::arg("threads") = 1);
}
