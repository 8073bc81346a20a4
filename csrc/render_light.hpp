// What becomes of levels in [0, 1] once they are sampled: specks, colour, light. Part of the loops of the
// renderer, compiled with them for each instruction set. Specification: aqqua/render/reference.py (_view).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "render_loops.hpp"

// A disc with a soft rim covers its share of each pixel.
AQQUA_INLINE void cover(const Sight &sight, const Run &run, int64_t count, float *values) {
    alignas(64) float share[kRun];
    for (int64_t s = 0; s < sight.specks; ++s) {
        const float x = sight.speck[4 * s], y = sight.speck[4 * s + 1];
        const float radius = sight.speck[4 * s + 2], level = sight.speck[4 * s + 3];
        if (!(radius > 0)) continue;
        const float whole = radius + 0.5f;
        for (int64_t k = 0; k < count; ++k) {
            const float right = float(run.left + run.column[k]) + 0.5f - x;
            const float down = float(run.top + run.row[k]) + 0.5f - y;
            const float within = whole - std::sqrt(right * right + down * down);
            const float some = within > 0 ? within : 0;
            share[k] = some < 1 ? some : 1;
        }
        for (int p = 0; p < sight.planes; ++p) {
            float *plane = values + p * kRun;
            for (int64_t k = 0; k < count; ++k) plane[k] += share[k] * (level - plane[k]);
        }
    }
}

// Always three planes, even where an image has one that is repeated.
AQQUA_INLINE void mix(const float *colour, int planes, int64_t count, float *values) {
    float *red = values, *green = values + kRun, *blue = values + 2 * kRun;
    if (planes == 1) {
        std::memcpy(green, red, size_t(count) * sizeof(float));
        std::memcpy(blue, red, size_t(count) * sizeof(float));
    }
    for (int64_t k = 0; k < count; ++k) {
        const float r = red[k], g = green[k], b = blue[k];
        red[k] = colour[0] * r + colour[1] * g + colour[2] * b;
        green[k] = colour[3] * r + colour[4] * g + colour[5] * b;
        blue[k] = colour[6] * r + colour[7] * g + colour[8] * b;
    }
}

// A view's light: scale, bias, and the fold where there is one.
template <bool kFolds>
AQQUA_INLINE float lit(float level, float scale, float bias, float fold) {
    const float value = level * scale + bias;
    if (!kFolds) return value;
    const float back = fold - value;
    return back < value ? back : value;
}
