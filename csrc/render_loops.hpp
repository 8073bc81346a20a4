// The loops of the CPU renderer that touch every pixel, over plain arrays, compiled for several
// instruction sets. Whichever serves, the bits are the same: every value is made by the same operations
// in the same order. render_views.cpp calls them.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "inline.hpp"

constexpr float kLuma[3] = {0.299f, 0.587f, 0.114f};  // ITU-R BT.601
constexpr int64_t kRun = 256;   // output px made at once: all their buffers stay in the L1 cache
constexpr int64_t kLanes = 16;  // floats of the widest registers

// Loops go to whole registers, so that no rest is done one by one: what they read must be that long.
inline int64_t whole_lanes(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// One axis of a view's map: the point shown by the output pixel centred at (column, row).
struct Axis {
    float per_column, per_row, offset;
    AQQUA_INLINE float at(float column, float row) const {
        return per_column * column + per_row * row + offset;
    }
};

// Where a view looks along one axis, px of the plane.
struct Span {
    float low, high;
    int64_t first() const { return int64_t(std::floor(low)); }
    int64_t last() const { return int64_t(std::floor(high)) + 1; }  // the right or lower tap included

    // Into the span; NaN becomes its low end, so no map can lead outside the plane.
    AQQUA_INLINE float bounded(float value) const {
        value = value > low ? value : low;
        return value < high ? value : high;
    }
};

// A plane to sample from, whose first value is the one at (left, top).
struct Plane {
    const float *first;
    int64_t left, top;
    int64_t stride, plane_stride;
};

// What the output pixels of one view are made from. Planes hold differences to the background.
struct Sight {
    Plane plane;
    int planes;  // 1, or `channels`
    Axis x, y;
    Span x_span, y_span;  // every point of the map is held inside: no tap lies off the plane
    int64_t width;        // of the view, output px
    int channels;         // of the model, 1 or 3
    float background[3], scale, bias[3];
    float noise;  // amplitude; 0 for none
    uint64_t key;
    const float *speck;  // [specks, 4] x, y, radius in output px; level in [0, 1]
    int64_t specks;
    const float *colour;  // [3, 3] out channel, in channel; null: the identity, or a model of one channel
    bool folds;           // else `fold` is not read
    float fold[3];
};

// Output pixels in the order they are written: number k is at (left + column[k], top + row[k]).
struct Run {
    const int32_t *column, *row;  // readable up to whole_lanes(count)
    int32_t left, top;
    int64_t count;  // 1 to kRun
};

// A row of pixels as differences to the background.
struct PixelRow {
    const unsigned char *first;  // of `channels` interleaved, any alignment
    int channels;                // 1 or 3
    bool wide;                   // 16 bit
    int64_t width;
};

// A symmetric Gaussian along both axes, over the rows y .. y + rows - 1.
struct Blur {
    const float *weight;  // [reach + 1], the middle one first
    int64_t reach;
    const float *const *lines;    // [rows + 2 * reach]: of row y - reach and on; zeros beyond the image
    int64_t y, rows, height;      // source px; the image has the rows 0 .. height - 1
    int64_t copied;               // values of a line, readable up to whole_lanes(copied)
    int64_t at;                   // where the first of them goes in `buffer`
    float *buffer;                // [stride + 2 * reach + kLanes], zeros: one row, blurred along y
    const float *const *shifted;  // [2 * reach + 1]: buffer, buffer + 1, ...
    int64_t stride;               // values of a blurred row, whole_lanes
};

// The loops as compiled for one instruction set.
struct Loops {
    const char *name;
    // to[x] = level of channel `channel` in [0, 1] - background.
    void (*difference_row)(const PixelRow &row, int channel, float background, float *to);
    // to[x] = luma of a row of three channels in [0, 1] - background.
    void (*luma_row)(const PixelRow &row, float background, float *to);
    // out[r * stride + c] = the Gaussian around column c + reach of `buffer` and row y + r.
    void (*blur_plane)(const Blur &blur, float *out);
    // The values of a run, [count, channels]: float32, or bfloat16 rounded to nearest, ties to even.
    void (*render_float32)(const Sight &sight, const Run &run, void *out);
    void (*render_bfloat16)(const Sight &sight, const Run &run, void *out);
};

// Those this machine can run, the fastest first; never empty.
std::vector<const Loops *> loops_here();
