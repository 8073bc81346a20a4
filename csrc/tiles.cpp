// Sequences to attention tiles: the longest first, each tile filled as exactly as can be.
// Specification: aqqua/kernels/attention/tiles.py, arrange_reference. Test: tests/plan/test_attention_tiles.py.
// Timing: bench/data/tiles.py.
//
// Sequences of one length are interchangeable, so tiles are filled with counts: a pattern of lengths
// found once serves as many tiles as the counts allow. There are few patterns, at most the sum of
// rows / length over the lengths, whatever the number of sequences: each uses one length up to fewer than
// a tile of it held. Which sums some lengths can make is a bitmap, bit s for s rows. Then one pass over the
// sequences hands the k-th of each length its place: O(V), no sorting.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"

namespace py = pybind11;

namespace {

constexpr const char *kName = "arrange";
constexpr int32_t kMostRows = 128;  // of a tile

#ifndef __SIZEOF_INT128__
#error "needs a compiler with 128-bit integers: GCC or Clang for a 64-bit machine"
#endif
using Sums = unsigned __int128;                               // bit s: s rows can be filled exactly
using Counts = std::array<int32_t, kMostRows + 2>;            // by length; the last is of all longer ones

// Where sequences of one length go: `each` into every tile of a run.
struct Deal {
    int32_t first, tiles;
    int32_t each;
    int32_t row, item;  // of the first of them in its tile
};

using Deals = std::array<std::vector<Deal>, kMostRows + 1>;  // by length, in the order they are used

// Which sums the sequences that are left can make, the shortest lengths first.
class Reach {
public:
    explicit Reach(const Counts &counts) : counts_(counts) { sums_[0] = 1; }

    int32_t count(int32_t length) const { return counts_[size_t(length)]; }

    void remove(int32_t length, int32_t sequences) {
        int32_t &count = counts_[size_t(length)];
        const int32_t most = (kMostRows - 1) / length;  // more of them make no other sum
        if (count - sequences < most) known_ = std::min(known_, length - 1);
        count -= sequences;
    }

    // Sums of the lengths up to `length`, below kMostRows.
    Sums sums(int32_t length) {
        while (known_ < length) {
            ++known_;
            sums_[size_t(known_)] = with(sums_[size_t(known_ - 1)], known_, count(known_));
        }
        return sums_[size_t(length)];
    }

private:
    // Sums with 0 to `copies` of a length added; doubling, so that it takes few steps.
    static Sums with(Sums sums, int32_t length, int32_t copies) {
        int32_t left = std::min(copies, (kMostRows - 1) / length);
        for (int32_t step = 1; left > 0; left -= step, step *= 2) {
            step = std::min(step, left);
            sums |= sums << (step * length);
        }
        return sums;
    }

    Counts counts_;
    std::array<Sums, kMostRows> sums_;
    int32_t known_ = 0;  // sums_ holds for lengths up to this one
};

// What every tile of a class holds, found from the counts.
class Packing {
public:
    Packing(const Counts &counts, const std::vector<int32_t> &class_rows) : reach_(counts) {
        for (int32_t longest = class_rows.back(); longest >= 1;) {
            if (reach_.count(longest) == 0) {
                --longest;
                continue;
            }
            const int32_t rows = *std::lower_bound(class_rows.begin(), class_rows.end(), longest);
            lay(pattern(longest, rows), rows);
        }
    }

    Deals deals;
    std::vector<int32_t> items_B, rows_B;  // of each tile: its sequences, its rows

private:
    struct Share {
        int32_t length, each;
    };

    // What a tile holds: one of the longest, then what fills the rest best, again the longest first.
    std::vector<Share> pattern(int32_t longest, int32_t rows) {
        std::vector<Share> shares{{longest, 1}};
        reach_.remove(longest, 1);
        int32_t length = std::min(longest, rows - longest);
        int32_t left = highest_bit(reach_.sums(length), rows - longest);
        for (; left > 0; --length) {
            int32_t each = std::min(reach_.count(length), left / length);
            const Sums shorter = reach_.sums(length - 1);
            while (!(shorter >> (left - each * length) & 1)) --each;
            if (each == 0) continue;
            left -= each * length;
            if (length == longest)
                shares.front().each += each;
            else
                shares.push_back({length, each});
        }
        return shares;
    }

    // As many tiles of a pattern as there are sequences for.
    void lay(const std::vector<Share> &shares, int32_t rows) {
        const int32_t longest = shares.front().length;
        const auto there = [&](int32_t length) { return reach_.count(length) + (length == longest); };
        int32_t tiles = std::numeric_limits<int32_t>::max(), items = 0, row = 0;
        for (const Share &share : shares) tiles = std::min(tiles, there(share.length) / share.each);
        for (const Share &share : shares) {
            deals[size_t(share.length)].push_back({int32_t(rows_B.size()), tiles, share.each, row, items});
            reach_.remove(share.length, share.each * tiles - (share.length == longest));
            items += share.each;
            row += share.each * share.length;
        }
        items_B.resize(items_B.size() + size_t(tiles), items);
        rows_B.resize(items_B.size(), rows);
    }

    // The highest bit that is set, of those up to `most`; bit 0 always is.
    static int32_t highest_bit(Sums bits, int32_t most) {
        bits &= ~Sums(0) >> (127 - most);
        const auto high = uint64_t(bits >> 64), low = uint64_t(bits);
        return high ? 127 - __builtin_clzll(high) : 63 - __builtin_clzll(low);
    }

    Reach reach_;
};

// Hands the sequences of one length their places, in the order they come.
struct Hand {
    const Deal *deal = nullptr;
    int32_t tile = 0, tiles_left = 0;  // tiles_left: of this deal, this tile included
    int32_t left = 0;                  // places left in this tile
    int32_t row = 0, slot = 0;         // the next place: row in the tile, position in the order

    void next_tile(const int32_t *start_B1) {
        if (tiles_left > 1) {
            --tiles_left;
            ++tile;
        } else {
            deal = deal ? deal + 1 : first;
            tiles_left = deal->tiles;
            tile = deal->first;
        }
        left = deal->each;
        row = deal->row;
        slot = start_B1[tile] + deal->item;
    }

    const Deal *first = nullptr;
};

struct Places {  // the outputs, to be written
    int32_t *order_J, *tile_V, *row_V, *long_W;
};

Counts count(const int32_t *lengths_V, int64_t views, int32_t most) {
    Counts counts{};
    for (int64_t v = 0; v < views; ++v) {
        if (lengths_V[v] < 1)
            require(false, kName, "lengths must be 1 to 2**31 - 1",
                    std::to_string(lengths_V[v]) + " for sequence " + std::to_string(v),
                    "leave empty sequences out");
        ++counts[size_t(std::min(lengths_V[v], most + 1))];
    }
    return counts;
}

void place(const int32_t *lengths_V, int64_t views, int32_t most, const Deals &deals, const int32_t *start_B1,
           Places to) {
    std::array<Hand, kMostRows + 1> hands;
    for (size_t length = 0; length < hands.size(); ++length) hands[length].first = deals[length].data();
    for (int64_t v = 0; v < views; ++v) {
        const int32_t length = lengths_V[v];
        if (length > most) {
            to.tile_V[v] = to.row_V[v] = -1;
            *to.long_W++ = int32_t(v);
            continue;
        }
        Hand &hand = hands[size_t(length)];
        if (hand.left == 0) hand.next_tile(start_B1);
        to.tile_V[v] = hand.tile;
        to.row_V[v] = hand.row;
        to.order_J[hand.slot] = int32_t(v);
        --hand.left;
        ++hand.slot;
        hand.row += length;
    }
}

void require_classes(const std::vector<int32_t> &class_rows) {
    std::string got;
    bool rises = !class_rows.empty();
    for (size_t g = 0; g < class_rows.size(); ++g) {
        got += (g ? ", " : "") + std::to_string(class_rows[g]);
        rises = rises && class_rows[g] > (g ? class_rows[g - 1] : 0) && class_rows[g] <= kMostRows;
    }
    require(rises, kName, "tile_rows must rise within 1 to " + std::to_string(kMostRows), "(" + got + ")",
            "give the rows of each class's tiles once");
}

py::tuple arrange(const py::array &lengths, const std::vector<int32_t> &tile_rows) {
    require_classes(tile_rows);
    const int64_t views = int64_t(lengths.size());
    require(views <= std::numeric_limits<int32_t>::max(), kName, "sequences must be fewer than 2**31",
            std::to_string(views), "arrange them pack by pack");
    const int32_t *given = values_of<int32_t>(kName, lengths, "lengths_V", {views}, "convert them");
    // A copy: what was counted must be what is placed, even if another thread writes to the array meanwhile.
    const std::vector<int32_t> copied(given, given + views);
    const int32_t *lengths_V = copied.data();
    const int32_t most = tile_rows.back();
    const auto made = [](int64_t size) { return py::array_t<int32_t>(py::ssize_t(size)); };
    Counts counts;
    std::optional<Packing> packing;
    {
        py::gil_scoped_release release;
        counts = count(lengths_V, views, most);
        packing.emplace(counts, tile_rows);
    }
    const int64_t tiles = int64_t(packing->rows_B.size()), longer = counts[size_t(most + 1)];
    py::array_t<int32_t> order_J = made(views - longer), start_B1 = made(tiles + 1), rows_B = made(tiles),
                         tile_V = made(views), row_V = made(views), long_W = made(longer);
    int32_t *start = start_B1.mutable_data(), *rows = rows_B.mutable_data();
    const Places to{order_J.mutable_data(), tile_V.mutable_data(), row_V.mutable_data(),
                    long_W.mutable_data()};
    {
        py::gil_scoped_release release;
        std::copy(packing->rows_B.begin(), packing->rows_B.end(), rows);
        start[0] = 0;
        for (int64_t b = 0; b < tiles; ++b) start[b + 1] = start[b] + packing->items_B[size_t(b)];
        place(lengths_V, views, most, packing->deals, start, to);
    }
    return py::make_tuple(order_J, start_B1, rows_B, tile_V, row_V, long_W);
}

// For each row of the tiles `first` to `first + tiles - 1`, all of `rows` rows: the token it holds, then the
// sequence that token is of; -1 where it holds none.
py::array_t<int32_t> lay_out(const py::array &lengths, const py::array &tile_of, const py::array &row_of,
                             int64_t first, int64_t tiles, int64_t rows) {
    constexpr const char *kLay = "lay_out", *fix = "take them from arrange";
    const int64_t views = int64_t(lengths.size());
    const int32_t *lengths_V = values_of<int32_t>(kLay, lengths, "lengths_V", {views}, fix);
    const int32_t *tile_V = values_of<int32_t>(kLay, tile_of, "tile_V", {views}, fix);
    const int32_t *row_V = values_of<int32_t>(kLay, row_of, "row_V", {views}, fix);
    require(rows >= 1 && rows <= kMostRows, kLay, "rows must be 1 to " + std::to_string(kMostRows),
            std::to_string(rows), fix);
    require(first >= 0 && tiles >= 0 && tiles <= views, kLay, "tiles must be 0 to the number of sequences",
            std::to_string(tiles) + " from " + std::to_string(first), fix);
    py::array_t<int32_t> table({py::ssize_t(tiles), py::ssize_t(2), py::ssize_t(rows)});
    int32_t *const at = table.mutable_data();
    bool fits = true;
    {
        py::gil_scoped_release release;
        std::fill_n(at, table.size(), -1);
        int64_t token = 0;
        for (int64_t v = 0; v < views; ++v) {
            const int64_t length = lengths_V[v], tile = int64_t(tile_V[v]) - first, row = row_V[v];
            if (tile >= 0 && tile < tiles) {
                if (length < 1 || row < 0 || row + length > rows) {
                    fits = false;
                    break;
                }
                int32_t *const tokens = at + 2 * rows * tile + row;
                std::iota(tokens, tokens + length, int32_t(token));
                std::fill_n(tokens + rows, length, int32_t(v));
            }
            token += length;
        }
    }
    require(fits, kLay, "every sequence must lie inside its tile", "one that does not", fix);
    return table;
}

}  // namespace

void register_tiles(py::module_ &module) {
    module.def("arrange", &arrange, py::arg("lengths_V"), py::arg("tile_rows"));
    module.def("lay_out", &lay_out, py::arg("lengths_V"), py::arg("tile_V"), py::arg("row_V"),
               py::arg("first"), py::arg("tiles"), py::arg("rows"));
}
