// The renderer's loops. Specification: aqqua/render/reference.py. Test: tests/render/test_native.py.
//
// Coordinates repeat the float32 operations of the specification in their order: one rounding apart,
// a point 3,000 px out would move by 1/4096 px, which shows at an edge.
#include "render_loops.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "murmur.hpp"
#include "render_light.hpp"

namespace {

// ---- pixels to differences ---------------------------------------------------------------------

template <typename T>
AQQUA_INLINE float level(const unsigned char *at) {
    T value;
    std::memcpy(&value, at, sizeof(T));  // 16-bit rows may be unaligned
    return float(value) / float(std::numeric_limits<T>::max());
}

template <typename T, int kChannels>
AQQUA_INLINE void differences(const PixelRow &row, int channel, float background, float *to) {
    const unsigned char *from = row.first + channel * int64_t(sizeof(T));
    for (int64_t x = 0; x < row.width; ++x)
        to[x] = level<T>(from + x * int64_t(sizeof(T)) * kChannels) - background;
}

template <typename T>
AQQUA_INLINE void luma_differences(const PixelRow &row, float background, float *to) {
    for (int64_t x = 0; x < row.width; ++x) {
        const unsigned char *at = row.first + x * 3 * int64_t(sizeof(T));
        const float luma = level<T>(at) * kLuma[0] + level<T>(at + sizeof(T)) * kLuma[1] +
                           level<T>(at + 2 * sizeof(T)) * kLuma[2];
        to[x] = luma - background;
    }
}

// ---- blur --------------------------------------------------------------------------------------

// out[c] += sum over k = first .. first + kPairs - 1 of weight[k] * (middle[-k][c] + middle[k][c]).
template <int kPairs>
AQQUA_INLINE void add_pairs(const float *weight, const float *const *middle, int64_t first, int64_t width,
                            float *__restrict out) {
    const float *before[kPairs], *after[kPairs];
    float w[kPairs];
    for (int k = 0; k < kPairs; ++k) {
        before[k] = middle[-first - k];
        after[k] = middle[first + k];
        w[k] = weight[first + k];
    }
    for (int64_t c = 0; c < width; ++c) {
        float sum = out[c];
        for (int k = 0; k < kPairs; ++k) sum += w[k] * (before[k][c] + after[k][c]);
        out[c] = sum;
    }
}

// out[c] = weight[0] * middle[0][c] + the pairs first .. last as above.
AQQUA_INLINE void symmetric_sum(const float *weight, const float *const *middle, int64_t first, int64_t last,
                                int64_t width, float *__restrict out) {
    const float *from = middle[0];
    const float w = weight[0];
    for (int64_t c = 0; c < width; ++c) out[c] = w * from[c];
    for (; first + 3 <= last; first += 4) add_pairs<4>(weight, middle, first, width, out);
    if (last - first == 2)
        add_pairs<3>(weight, middle, first, width, out);
    else if (last - first == 1)
        add_pairs<2>(weight, middle, first, width, out);
    else if (last == first)
        add_pairs<1>(weight, middle, first, width, out);
}

// ---- a run of output pixels --------------------------------------------------------------------

// Where the four taps of each pixel lie, and how they are weighed.
struct alignas(64) Taps {
    int32_t index[kRun];
    float across[kRun], down[kRun];
};

AQQUA_INLINE void locate(const Sight &sight, const Run &run, int64_t count, Taps &taps) {
    const Axis x_axis = sight.x, y_axis = sight.y;
    const Span x_span = sight.x_span, y_span = sight.y_span;
    const int32_t x0 = int32_t(sight.plane.left), y0 = int32_t(sight.plane.top);
    const int32_t stride = int32_t(sight.plane.stride);
    for (int64_t k = 0; k < count; ++k) {
        const float column = float(run.left + run.column[k]) + 0.5f, row = float(run.top + run.row[k]) + 0.5f;
        const float x = x_span.bounded(x_axis.at(column, row)), y = y_span.bounded(y_axis.at(column, row));
        int32_t left = int32_t(x), top = int32_t(y);  // towards zero; floor has no SSE2 instruction
        left -= float(left) > x;
        top -= float(top) > y;
        taps.across[k] = x - float(left);
        taps.down[k] = y - float(top);
        taps.index[k] = (top - y0) * stride + (left - x0);
    }
}

// Neighbours of a row lie side by side and are copied as pairs: two loads a pixel instead of four.
AQQUA_INLINE void fetch(const float *plane, int64_t stride, const int32_t *index, int64_t count, float *upper,
                        float *lower) {
    const float *below = plane + stride;
    for (int64_t k = 0; k < count; ++k) {
        std::memcpy(upper + 2 * k, plane + index[k], 2 * sizeof(float));
        std::memcpy(lower + 2 * k, below + index[k], 2 * sizeof(float));
    }
}

AQQUA_INLINE void blend(const float *upper, const float *lower, const Taps &taps, float background,
                        int64_t count, float *values) {
    for (int64_t k = 0; k < count; ++k) {
        const float a = taps.across[k], d = taps.down[k];
        const float above = upper[2 * k] * (1 - a) + upper[2 * k + 1] * a;
        const float below = lower[2 * k] * (1 - a) + lower[2 * k + 1] * a;
        values[k] = above * (1 - d) + below * d + background;
    }
}

AQQUA_INLINE void make_noise(const Sight &sight, const Run &run, int64_t count, float *noise) {
    const uint32_t low = uint32_t(sight.key), high = uint32_t(sight.key >> 32), width = uint32_t(sight.width);
    const float sigma = float(std::sqrt(4 * (256.0 * 256.0 - 1) / 12));  // of four uniform bytes
    const float amplitude = sight.noise;
    for (int64_t k = 0; k < count; ++k) {
        const uint32_t pixel = uint32_t(run.top + run.row[k]) * width + uint32_t(run.left + run.column[k]);
        const uint32_t w = murmur_finaliser(murmur_finaliser(pixel ^ low) ^ high);
        const int32_t total = int32_t((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24));
        noise[k] = float(total - 510) / sigma * amplitude;
    }
}

// ---- light, noise, storing ---------------------------------------------------------------------

AQQUA_INLINE void store(float value, float *to) { *to = value; }

AQQUA_INLINE void store(float value, uint16_t *to) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    *to = uint16_t(value == value ? rounded : 0x7FC0u);
}

// `step` is how far the planes of `values` lie apart: 0 where one is repeated.
template <bool kFolds, typename Out>
AQQUA_INLINE void write(const Sight &sight, const float *values, int64_t step, const float *noise,
                        int64_t count, Out *out) {
    const float scale = sight.scale;
    const float b0 = sight.bias[0], b1 = sight.bias[1], b2 = sight.bias[2];
    const float f0 = sight.fold[0], f1 = sight.fold[1], f2 = sight.fold[2];
    if (sight.channels == 1) {
        for (int64_t k = 0; k < count; ++k)
            store(lit<kFolds>(values[k], scale, b0, f0) + noise[k], out + k);
        return;
    }
    const float *red = values, *green = values + step, *blue = values + 2 * step;
    for (int64_t k = 0; k < count; ++k) {
        store(lit<kFolds>(red[k], scale, b0, f0) + noise[k], out + 3 * k);
        store(lit<kFolds>(green[k], scale, b1, f1) + noise[k], out + 3 * k + 1);
        store(lit<kFolds>(blue[k], scale, b2, f2) + noise[k], out + 3 * k + 2);
    }
}

// ---- what Loops has ----------------------------------------------------------------------------

AQQUA_INLINE void do_difference_row(const PixelRow &row, int channel, float background, float *to) {
    if (row.wide && row.channels == 1)
        differences<uint16_t, 1>(row, channel, background, to);
    else if (row.wide)
        differences<uint16_t, 3>(row, channel, background, to);
    else if (row.channels == 1)
        differences<uint8_t, 1>(row, channel, background, to);
    else
        differences<uint8_t, 3>(row, channel, background, to);
}

AQQUA_INLINE void do_luma_row(const PixelRow &row, float background, float *to) {
    if (row.wide)
        luma_differences<uint16_t>(row, background, to);
    else
        luma_differences<uint8_t>(row, background, to);
}

AQQUA_INLINE void do_blur_plane(const Blur &blur, float *out) {
    const int64_t reach = blur.reach, written = whole_lanes(blur.copied);
    for (int64_t r = 0; r < blur.rows; ++r) {
        // Pairs of lines that both lie beyond the image add nothing.
        const int64_t y = blur.y + r, below = blur.height - 1 - y;
        const int64_t first = std::max<int64_t>({1, -y, -below}), last = std::min(reach, std::max(y, below));
        symmetric_sum(blur.weight, blur.lines + r + reach, first, last, written, blur.buffer + blur.at);
        std::fill(blur.buffer + blur.at + blur.copied, blur.buffer + blur.at + written, 0.0f);
        symmetric_sum(blur.weight, blur.shifted + reach, 1, reach, blur.stride, out + r * blur.stride);
    }
}

template <typename Out>
AQQUA_INLINE void do_render_run(const Sight &sight, const Run &run, Out *out) {
    alignas(64) float upper[2 * kRun], lower[2 * kRun], values[3 * kRun], noise[kRun];
    Taps taps;
    const int64_t count = whole_lanes(run.count);
    const Plane &plane = sight.plane;
    locate(sight, run, count, taps);
    for (int p = 0; p < sight.planes; ++p) {
        fetch(plane.first + p * plane.plane_stride, plane.stride, taps.index, count, upper, lower);
        blend(upper, lower, taps, sight.background[p], count, values + p * kRun);
    }
    if (sight.noise != 0)
        make_noise(sight, run, count, noise);
    else
        std::fill(noise, noise + count, -0.0f);  // which changes no number, not even -0
    if (sight.specks) cover(sight, run, count, values);
    if (sight.colour) mix(sight.colour, sight.planes, count, values);
    const int64_t step = sight.planes == 1 && !sight.colour ? 0 : kRun;
    if (sight.folds)
        write<true>(sight, values, step, noise, run.count, out);
    else
        write<false>(sight, values, step, noise, run.count, out);
}

// The loops compiled for one instruction set, named `kName`.
#define AQQUA_LOOPS(kName, TARGET)                                                              \
    namespace kName {                                                                           \
    TARGET void difference_row(const PixelRow &row, int channel, float background, float *to) { \
        do_difference_row(row, channel, background, to);                                        \
    }                                                                                           \
    TARGET void luma_row(const PixelRow &row, float background, float *to) {                    \
        do_luma_row(row, background, to);                                                       \
    }                                                                                           \
    TARGET void blur_plane(const Blur &blur, float *out) { do_blur_plane(blur, out); }          \
    TARGET void float32(const Sight &sight, const Run &run, void *out) {                        \
        do_render_run(sight, run, static_cast<float *>(out));                                   \
    }                                                                                           \
    TARGET void bfloat16(const Sight &sight, const Run &run, void *out) {                       \
        do_render_run(sight, run, static_cast<uint16_t *>(out));                                \
    }                                                                                           \
    constexpr Loops kLoops{#kName, difference_row, luma_row, blur_plane, float32, bfloat16};    \
    }

// Without fused multiply-adds (-ffp-contract=off) all of them give the same bits.
AQQUA_LOOPS(plain, )
#if defined(__x86_64__) && defined(__GNUC__)
AQQUA_LOOPS(avx2, __attribute__((target("avx2"))))
AQQUA_LOOPS(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

}  // namespace

std::vector<const Loops *> loops_here() {
    std::vector<const Loops *> here;
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        here.push_back(&avx512::kLoops);
    if (__builtin_cpu_supports("avx2")) here.push_back(&avx2::kLoops);
#endif
    here.push_back(&plain::kLoops);
    return here;
}
