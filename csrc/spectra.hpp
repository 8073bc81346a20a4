// Whether two small pictures may agree in some pose, told from their low frequencies, for near_keys.cpp.
// Specification: spectra of aqqua/curate/images/descriptor.py. Test: tests/curate/copies/test_leaves.py.
#pragma once

#include <algorithm>

#include "inline.hpp"

namespace {

constexpr int kLine = 64;  // low frequencies of a picture, in four classes

// Low frequencies of small pictures of length 1: a line of 64 for each row of the leaves, in four classes of
// 16, by whether they are even or odd down and across; and the length of all higher ones. A flip changes the
// sign of whole classes, so the best correlation of eight poses takes two products of lines, not eight of
// pictures; what the higher frequencies add is at most the product of their lengths.
struct Spectra {
    const float *lines, *rest;
    float least;  // correlation
};

AQQUA_INLINE float best_of_flips(const float *a, const float *b) {
    float sums[4];
    for (int which = 0; which < 4; ++which) {
        float lanes[8] = {};
        for (int k = 0; k < 16; k += 8)
            for (int x = 0; x < 8; ++x) lanes[x] += a[which * 16 + k + x] * b[which * 16 + k + x];
        for (int x = 1; x < 8; ++x) lanes[0] += lanes[x];
        sums[which] = lanes[0];
    }
    const float down = sums[1], across = sums[2], both = sums[3];
    return sums[0] + std::max(std::max(down + across + both, down - across - both),
                              std::max(across - down - both, both - down - across));
}

// Whether a picture, as it is or turned, may agree well enough with another.
AQQUA_HOT bool may_agree(const float *line, const float *turned, const float *other, float rest,
                         float least) {
    return std::max(best_of_flips(line, other), best_of_flips(turned, other)) + rest >= least;
}

// A line of the picture with rows and columns exchanged.
void turn(const float *line, float *turned) {
    for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 4; ++x) {
            turned[4 * y + x] = line[4 * x + y];
            turned[16 + 4 * y + x] = line[32 + 4 * x + y];
            turned[32 + 4 * y + x] = line[16 + 4 * x + y];
            turned[48 + 4 * y + x] = line[48 + 4 * x + y];
        }
}

}  // namespace
