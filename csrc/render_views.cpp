// Plan and pixels to patch rows, on the CPU.
// Specification: aqqua/render/reference.py. Checks: render.cpp.
// Test: tests/render/test_native.py. Timing: bench/data/render.py.
//
// A thread takes one image after the other: its pixels become, once, a float plane of differences to
// the background; then each of its views is blurred (only where it looks), sampled and written.
// Coordinates repeat the float32 operations of the specification in their order: one rounding apart,
// a point 3,000 px out would move by 1/4096 px, which shows at an edge. One file, though long: it is one
// way from pixels to rows, told in order.
#include "render_views.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

// Hot loops are compiled twice and chosen at start; without -mfma both give the same bits.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define AQQUA_HOT __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef AQQUA_HOT
#define AQQUA_HOT
#endif

namespace {

constexpr double kReach = 3.0;          // the Gaussian ends at this many sigma
constexpr double kSmallestSigma = 0.2;  // source px; below it no blur
constexpr int64_t kBlock = 32;          // columns summed at once: 8 SSE or 4 AVX registers

// A plane to sample from, whose first value is the one at (left, top).
struct Plane {
    const float *first;
    int64_t left, top;
    int64_t stride, plane_stride;
};

struct Span {
    float low, high;
    int64_t first() const { return int64_t(std::floor(low)); }
    int64_t last() const { return int64_t(std::floor(high)) + 1; }  // the right or lower tap included
};

// Buffers of one thread. They only grow.
struct Scratch {
    std::vector<float> plane, taps, line, across_blurred, blurred, across, down, values, noise, ready;
    std::vector<int32_t> index;
    int planes = 0;

    static void grow(std::vector<float> &buffer, int64_t size) {
        if (int64_t(buffer.size()) < size) buffer.resize(size_t(size));
    }
};

// ---- pixels to a plane of differences ----------------------------------------------------------

template <typename T>
float level(const unsigned char *at) {
    T value;
    std::memcpy(&value, at, sizeof(T));  // 16-bit rows may be unaligned
    return float(value) / float(std::numeric_limits<T>::max());
}

template <typename T>
void fill_plane(const RenderImage &image, const RenderJob &job, int planes, float *plane) {
    const int64_t stride = image.width + 3, plane_stride = stride * (image.height + 3);
    const int64_t step = int64_t(sizeof(T)) * image.channels;
    for (int64_t y = 0; y < image.height; ++y) {
        const unsigned char *row = image.pixels + y * image.width * step;
        float *to = plane + (y + 1) * stride + 1;
        if (image.channels == 3 && job.channels == 1) {
            for (int64_t x = 0; x < image.width; ++x) {
                const unsigned char *at = row + x * step;
                const float luma = level<T>(at) * kLuma[0] + level<T>(at + sizeof(T)) * kLuma[1] +
                                   level<T>(at + 2 * sizeof(T)) * kLuma[2];
                to[x] = luma - image.background[0];
            }
            continue;
        }
        for (int p = 0; p < planes; ++p)  // channel p of a colour image; a grey one has only channel 0
            for (int64_t x = 0; x < image.width; ++x)
                to[p * plane_stride + x] =
                    level<T>(row + x * step + (image.channels == 3 ? p * int64_t(sizeof(T)) : 0)) -
                    image.background[p];
    }
}

// The image with a rim of zeros, 1 px before and 2 px after: every tap of an unblurred view lies inside.
Plane make_plane(const RenderImage &image, const RenderJob &job, Scratch &scratch) {
    const float *b = image.background;
    const bool repeated = image.channels == 1 && b[0] == b[1] && b[0] == b[2];
    scratch.planes = repeated ? 1 : job.channels;
    const int64_t stride = image.width + 3, plane_stride = stride * (image.height + 3);
    scratch.plane.assign(size_t(plane_stride * scratch.planes), 0.0f);
    (image.wide ? fill_plane<uint16_t> : fill_plane<uint8_t>)(image, job, scratch.planes,
                                                              scratch.plane.data());
    return {scratch.plane.data(), -1, -1, stride, plane_stride};
}

// ---- blur --------------------------------------------------------------------------------------

// out[c] = sum over k of weight[k] * in[k * step + c]. `width` is a multiple of kBlock.
AQQUA_HOT void weighted_sum(const float *in, int64_t step, const float *weight, int64_t weights,
                            int64_t width, float *out) {
    for (int64_t start = 0; start < width; start += kBlock) {
        float sum[kBlock] = {};
        for (int64_t k = 0; k < weights; ++k) {
            const float w = weight[k];
            const float *from = in + k * step + start;
            for (int64_t c = 0; c < kBlock; ++c) sum[c] += w * from[c];
        }
        for (int64_t c = 0; c < kBlock; ++c) out[start + c] = sum[c];
    }
}

void make_taps(double sigma, int64_t reach, std::vector<float> &taps) {
    taps.resize(size_t(2 * reach + 1));
    double total = 0;
    for (int64_t k = -reach; k <= reach; ++k) total += std::exp(-0.5 * (k / sigma) * (k / sigma));
    for (int64_t k = -reach; k <= reach; ++k)
        taps[size_t(k + reach)] = float(std::exp(-0.5 * (k / sigma) * (k / sigma)) / total);
}

// The blurred differences at the points of the two spans, which count from `reach` px before the image.
Plane blur(const Plane &plane, const RenderImage &image, double sigma, int64_t reach, Span x, Span y,
           Scratch &s) {
    const int64_t columns = x.last() - x.first() + 1, rows = y.last() - y.first() + 1;
    const int64_t stride = (columns + kBlock - 1) / kBlock * kBlock;
    const int64_t left = x.first() - 2 * reach;  // source column of the first tap
    const int64_t copy_from = std::max<int64_t>(left, 0);
    const int64_t copied = std::min(left + columns + 2 * reach, image.width) - copy_from;
    const int64_t top = std::max<int64_t>(y.first() - 2 * reach, 0);
    const int64_t bottom = std::min(y.last() + 1, image.height);
    make_taps(sigma, reach, s.taps);
    s.line.assign(size_t(stride + 2 * reach), 0.0f);
    Scratch::grow(s.across_blurred, std::max<int64_t>(bottom - top, 0) * stride);
    Scratch::grow(s.blurred, s.planes * rows * stride);
    for (int p = 0; p < s.planes; ++p) {
        for (int64_t row = top; row < bottom; ++row) {
            if (copied > 0)
                std::memcpy(s.line.data() + (copy_from - left),
                            plane.first + p * plane.plane_stride + (row + 1) * plane.stride + copy_from + 1,
                            size_t(copied) * sizeof(float));
            weighted_sum(s.line.data(), 1, s.taps.data(), 2 * reach + 1, stride,
                         s.across_blurred.data() + (row - top) * stride);
        }
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t first = y.first() + row - 2 * reach;  // source row of tap 0
            const int64_t skip = std::max<int64_t>(top - first, 0);
            const int64_t used = std::max<int64_t>(std::min(first + 2 * reach + 1, bottom) - first - skip, 0);
            const float *from = used ? s.across_blurred.data() + (first + skip - top) * stride : nullptr;
            weighted_sum(from, stride, s.taps.data() + (used ? skip : 0), used, stride,
                         s.blurred.data() + (p * rows + row) * stride);
        }
    }
    return {s.blurred.data(), x.first(), y.first(), stride, rows * stride};
}

// ---- sampling ----------------------------------------------------------------------------------

// One axis of the map: the point shown by the output pixel centred at (column, row).
struct Axis {
    float per_column, per_row, offset;
    float at(float column, float row) const { return per_column * column + per_row * row + offset; }
};

// Into the span; NaN becomes its low end, so no map can lead outside the plane.
inline float bounded(float value, Span span) {
    value = value > span.low ? value : span.low;
    return value < span.high ? value : span.high;
}

// Where a view looks along one axis. Rounding is monotone, so the corners bound all its points.
// Beyond [-1, side] everything is background, as it is at both ends.
Span looked_at(const Axis &axis, int64_t height, int64_t width, int64_t side) {
    const Span whole{-1.0f, float(side)};
    Span span{whole.high, whole.low};
    for (float row : {0.5f, float(height) - 0.5f})
        for (float column : {0.5f, float(width) - 0.5f}) {
            const float value = bounded(axis.at(column, row), whole);
            span = {std::min(span.low, value), std::max(span.high, value)};
        }
    return span;
}

AQQUA_HOT void locate_row(const Axis &x_axis, const Axis &y_axis, Span x_span, Span y_span, float row,
                          int64_t width, int32_t x0, int32_t y0, int32_t stride, int32_t *index,
                          float *across, float *down) {
    const float x_row = x_axis.per_row * row, y_row = y_axis.per_row * row;
    for (int32_t j = 0; j < int32_t(width); ++j) {
        const float column = float(j) + 0.5f;
        const float x = bounded(x_axis.per_column * column + x_row + x_axis.offset, x_span);
        const float y = bounded(y_axis.per_column * column + y_row + y_axis.offset, y_span);
        int32_t left = int32_t(x), top = int32_t(y);  // towards zero; floor has no SSE2 instruction
        left -= float(left) > x;
        top -= float(top) > y;
        across[j] = x - float(left);
        down[j] = y - float(top);
        index[j] = (top - y0) * stride + (left - x0);
    }
}

AQQUA_HOT void sample_row(const float *plane, int64_t stride, const int32_t *index, const float *across,
                          const float *down, float background, int64_t width, float *values) {
    const float *below = plane + stride;
    for (int64_t j = 0; j < width; ++j) {
        const int32_t i = index[j];
        const float a = across[j], d = down[j];
        const float upper = plane[i] * (1 - a) + plane[i + 1] * a;
        const float lower = below[i] * (1 - a) + below[i + 1] * a;
        values[j] = upper * (1 - d) + lower * d + background;
    }
}

inline uint32_t mix(uint32_t x) {  // finaliser of MurmurHash3
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

AQQUA_HOT void noise_row(uint64_t key, uint32_t first, int64_t width, float amplitude, float *noise) {
    const uint32_t low = uint32_t(key), high = uint32_t(key >> 32);
    const float sigma = float(std::sqrt(4 * (256.0 * 256.0 - 1) / 12));  // of four uniform bytes
    for (int32_t j = 0; j < int32_t(width); ++j) {
        const uint32_t w = mix(mix((first + uint32_t(j)) ^ low) ^ high);
        const int32_t total = int32_t((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24));
        noise[j] = float(total - 510) / sigma * amplitude;
    }
}

AQQUA_HOT void light_row(const float *values, const float *noise, float scale, float bias, int64_t width,
                         float *ready) {
    for (int64_t j = 0; j < width; ++j) ready[j] = values[j] * scale + bias;
    if (noise != nullptr)
        for (int64_t j = 0; j < width; ++j) ready[j] += noise[j];
}

// Row y of the view into its patches; a patch row holds (pixel row, pixel column, channel).
void write_row(const RenderView &view, const RenderJob &job, int64_t y, const float *ready) {
    const int64_t side = job.patch_px, width = view.grid_columns * side, channels = job.channels;
    for (int64_t patch = 0; patch < view.grid_columns; ++patch) {
        const int64_t number = y / side * view.grid_columns + patch;
        float *to = view.out + (number * side + y % side) * side * channels;
        const float *from = ready + patch * side;
        if (channels == 1) {
            std::memcpy(to, from, size_t(side) * sizeof(float));
            continue;
        }
        for (int64_t j = 0; j < side; ++j)
            for (int64_t c = 0; c < 3; ++c) to[j * 3 + c] = from[c * width + j];
    }
}

void render_view(const Plane &plane, const RenderImage &image, const RenderView &view, const RenderJob &job,
                 Scratch &s) {
    const int64_t height = view.grid_rows * job.patch_px, width = view.grid_columns * job.patch_px;
    const int64_t reach = blur_reach(view.sigma);
    const float shift = float(reach) - 0.5f;
    const Axis x_axis{view.map[0], view.map[1], view.map[2] + shift};
    const Axis y_axis{view.map[3], view.map[4], view.map[5] + shift};
    const Span x = looked_at(x_axis, height, width, image.width + 2 * reach);
    const Span y = looked_at(y_axis, height, width, image.height + 2 * reach);
    const Plane from = reach ? blur(plane, image, view.sigma, reach, x, y, s) : plane;
    const int planes = s.planes;
    for (int64_t row = 0; row < height; ++row) {
        locate_row(x_axis, y_axis, x, y, float(row) + 0.5f, width, int32_t(from.left), int32_t(from.top),
                   int32_t(from.stride), s.index.data(), s.across.data(), s.down.data());
        for (int p = 0; p < planes; ++p)
            sample_row(from.first + p * from.plane_stride, from.stride, s.index.data(), s.across.data(),
                       s.down.data(), image.background[p], width, s.values.data() + p * width);
        const bool noisy = view.noise != 0;
        if (noisy) noise_row(view.key, uint32_t(row * width), width, view.noise, s.noise.data());
        for (int c = 0; c < job.channels; ++c)
            light_row(s.values.data() + (planes == 1 ? 0 : c * width), noisy ? s.noise.data() : nullptr,
                      view.scale, view.bias[c], width, s.ready.data() + c * width);
        write_row(view, job, row, s.ready.data());
    }
}

// ---- all views ---------------------------------------------------------------------------------

using ViewsOfImages = std::vector<std::vector<size_t>>;

int64_t widest_view(const RenderJob &job) {
    int64_t widest = 0;  // output px
    for (const RenderView &view : job.views) widest = std::max(widest, view.grid_columns * job.patch_px);
    return widest;
}

void render_images(const RenderJob &job, const ViewsOfImages &views_of, std::atomic<size_t> &next) {
    const size_t width = size_t(widest_view(job));
    Scratch s;
    s.index.resize(width);
    for (auto *row : {&s.across, &s.down, &s.noise}) row->resize(width);
    for (auto *row : {&s.values, &s.ready}) row->resize(width * size_t(job.channels));
    for (size_t i = next++; i < job.images.size(); i = next++) {
        if (views_of[i].empty()) continue;
        const Plane plane = make_plane(job.images[i], job, s);
        for (size_t v : views_of[i]) render_view(plane, job.images[i], job.views[v], job, s);
    }
}

}  // namespace

int64_t blur_reach(double sigma) { return sigma < kSmallestSigma ? 0 : int64_t(std::ceil(kReach * sigma)); }

void render_views(const RenderJob &job, int threads) {
    ViewsOfImages views_of(job.images.size());
    for (size_t v = 0; v < job.views.size(); ++v) views_of[size_t(job.views[v].image)].push_back(v);
    std::atomic<size_t> next{0};
    std::exception_ptr failure;
    std::mutex lock;
    auto work = [&] {
        try {
            render_images(job, views_of, next);
        } catch (...) {  // memory ran out: told to the caller's thread
            const std::lock_guard<std::mutex> guard(lock);
            failure = std::current_exception();
        }
    };
    const size_t crew_size = std::min(size_t(threads), std::max<size_t>(job.images.size(), 1)) - 1;
    std::vector<std::thread> crew;
    crew.reserve(crew_size);
    try {
        while (crew.size() < crew_size) crew.emplace_back(work);
    } catch (const std::system_error &) {
        // The system has no more threads: those that started do it all.
    }
    work();
    for (auto &thread : crew) thread.join();
    if (failure) std::rethrow_exception(failure);
}
