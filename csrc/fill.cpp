// Which of the entries ahead go into a pack.
// Specification: aqqua/plan/fill.py, fill_reference. Test: tests/plan/test_fill.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "arrays.hpp"

namespace py = pybind11;

namespace {

constexpr const char *kFill = "fill";
constexpr int64_t kLookAhead = 64;  // aqqua.plan.lanes.LOOK_AHEAD; the bits of `taken`

struct Filling {
    bool closed = false;  // false: more entries are needed to know
    std::vector<int64_t> chosen;
    int64_t first = 0;
    uint64_t taken = 0;
    int64_t impossible = -1;  // entry that fits no pack; everything else is then meaningless
};

// Largest first, whatever still fits among the 64 entries from `filling.first` on; marks what it takes.
void fill_rest(const int64_t *tokens, uint64_t used, int64_t room, Filling &filling) {
    std::array<int64_t, kLookAhead> order;
    for (int64_t j = 0; j < kLookAhead; ++j) order[size_t(j)] = j;
    // A copy: sorting by numbers that another thread changes meanwhile would read beyond the array.
    std::array<int64_t, kLookAhead> open;
    std::copy_n(tokens + filling.first, kLookAhead, open.begin());
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return open[size_t(a)] > open[size_t(b)]; });
    for (int64_t j : order) {
        if ((used >> j & 1) || open[size_t(j)] > room) continue;
        used |= uint64_t(1) << j;
        filling.chosen.push_back(filling.first + j);
        room -= open[size_t(j)];
    }
    filling.taken = used;
}

Filling fill_pack(const int64_t *tokens, int64_t count, uint64_t taken, int64_t room) {
    Filling filling;
    const auto fits_a_pack = [&, pack = room](int64_t entry) {
        return tokens[entry] >= 1 && tokens[entry] <= pack;
    };
    int64_t ahead = 0;
    for (; ahead < count; ++ahead) {
        if (!fits_a_pack(ahead)) return filling.impossible = ahead, filling;
        if (ahead < kLookAhead && (taken >> ahead & 1)) continue;
        if (tokens[ahead] > room) break;
        filling.chosen.push_back(ahead);
        room -= tokens[ahead];
    }
    for (int64_t entry = ahead + 1; entry < std::min(count, ahead + kLookAhead); ++entry)
        if (!fits_a_pack(entry)) return filling.impossible = entry, filling;
    if (count - ahead < kLookAhead) return filling;
    filling.closed = true;
    filling.first = ahead;
    fill_rest(tokens, ahead < kLookAhead ? taken >> ahead : 0, room, filling);
    return filling;
}

py::object fill(const py::array &tokens_A, const py::object &taken_bits, const py::object &room_tokens) {
    const int64_t room = whole_of(kFill, room_tokens, 1, (int64_t(1) << 62) - 1,
                                  "room must be 1 to 2**62 - 1 tokens", "set data.pack_tokens");
    const uint64_t taken = word_of(kFill, taken_bits, "taken", "resume from a sound checkpoint");
    const int64_t count = int64_t(tokens_A.size());
    const auto *tokens = values_of<int64_t>(kFill, tokens_A, "tokens_A", {count}, "take it from a window");
    Filling filling;
    {
        const py::gil_scoped_release release;
        filling = fill_pack(tokens, count, taken, room);
    }
    if (filling.impossible >= 0)
        require(false, kFill, "every entry must have 1 to " + std::to_string(room) + " tokens",
                std::to_string(tokens[filling.impossible]), "raise data.pack_tokens");
    if (!filling.closed) return py::none();
    return py::make_tuple(py::array_t<int64_t>(py::ssize_t(filling.chosen.size()), filling.chosen.data()),
                          filling.first, filling.taken);
}

}  // namespace

void register_fill(py::module_ &module) {
    using py::operator""_a;
    module.def("fill", &fill, "tokens_A"_a, "taken"_a, "room"_a);
}
