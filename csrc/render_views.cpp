// Plan and pixels to patch rows, on the CPU.
// Specification: aqqua/render/reference.py. Checks: render.cpp. Loops over pixels: render_loops.cpp.
// Test: tests/render/test_native.py. Timing: bench/data/render.py.
//
// A thread takes one image after the other: its pixels become, once, a float plane of differences to
// the background; then each of its views is blurred (only where it looks), sampled and written, some
// 256 output pixels at a time in the order of the patch rows.
#include "render_views.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr double kReach = 3.0;          // the Gaussian ends at this many sigma
constexpr double kSmallestSigma = 0.2;  // source px; below it no blur

// Buffers of one thread. They only grow.
struct Scratch {
    std::vector<float> plane, zeros, taps, buffer, blurred;
    std::vector<const float *> lines, shifted;
    int planes = 0;

    template <typename T>
    static void grow(std::vector<T> &values, int64_t size) {
        if (int64_t(values.size()) < size) values.resize(size_t(size));
    }
};

// Column and row of every pixel of some patches side by side, in the order they are written.
struct Lattice {
    int64_t patches, area;  // how many, and px of one
    std::vector<int32_t> column, row;

    explicit Lattice(int64_t patch_px) : area(patch_px * patch_px) {
        patches = std::max<int64_t>(kRun / area, 1);
        const int64_t size = whole_lanes(patches * area);
        column.reserve(size_t(size));
        row.reserve(size_t(size));
        for (int64_t k = 0; k < size; ++k) {
            column.push_back(int32_t(k / area * patch_px + k % patch_px));
            row.push_back(int32_t(k % area / patch_px));
        }
    }
};

// ---- pixels to a plane of differences ----------------------------------------------------------

void fill_plane(const RenderImage &image, const RenderJob &job, int planes, float *plane) {
    const int64_t stride = image.width + 3, plane_stride = stride * (image.height + 3);
    const int64_t row_bytes = image.width * image.channels * (image.wide ? 2 : 1);
    for (int64_t y = 0; y < image.height; ++y) {
        const PixelRow row{image.pixels + y * row_bytes, image.channels, image.wide, image.width};
        float *to = plane + (y + 1) * stride + 1;
        if (image.channels == 3 && job.channels == 1) {
            job.loops->luma_row(row, image.background[0], to);
            continue;
        }
        for (int p = 0; p < planes; ++p)  // of a colour image channel p; a grey one has only channel 0
            job.loops->difference_row(row, image.channels == 3 ? p : 0, image.background[p],
                                      to + p * plane_stride);
    }
}

// The image with a rim of zeros, 1 px before and 2 px after: every tap of an unblurred view lies inside.
// The blur reads whole registers, hence some more zeros at the end.
Plane make_plane(const RenderImage &image, const RenderJob &job, Scratch &scratch) {
    const float *b = image.background;
    const bool repeated = image.channels == 1 && b[0] == b[1] && b[0] == b[2];
    scratch.planes = repeated ? 1 : job.channels;
    const int64_t stride = image.width + 3, plane_stride = stride * (image.height + 3);
    scratch.plane.assign(size_t(plane_stride * scratch.planes + kLanes), 0.0f);
    fill_plane(image, job, scratch.planes, scratch.plane.data());
    return {scratch.plane.data(), -1, -1, stride, plane_stride};
}

// ---- blur --------------------------------------------------------------------------------------

// Half of the symmetric Gaussian, its middle first; all of it sums to 1.
void make_taps(double sigma, int64_t reach, std::vector<float> &taps) {
    const auto bell = [=](int64_t k) { return std::exp(-0.5 * (double(k) / sigma) * (double(k) / sigma)); };
    double total = 1;
    for (int64_t k = 1; k <= reach; ++k) total += 2 * bell(k);
    taps.resize(size_t(reach + 1));
    for (int64_t k = 0; k <= reach; ++k) taps[size_t(k)] = float(bell(k) / total);
}

// The blurred differences at the points of the two spans, which count from `reach` px before the image.
Plane blur(const Plane &plane, const RenderImage &image, double sigma, int64_t reach, Span x, Span y,
           const Loops &loops, Scratch &s) {
    const int64_t columns = x.last() - x.first() + 1, rows = y.last() - y.first() + 1;
    const int64_t stride = whole_lanes(columns);
    const int64_t left = x.first() - 2 * reach, top = y.first() - 2 * reach;  // source px of the first taps
    const int64_t copy_from = std::clamp<int64_t>(left, 0, image.width);
    const int64_t copy_to = std::min(left + columns + 2 * reach, image.width);
    const int64_t copied = std::max<int64_t>(copy_to - copy_from, 0);
    make_taps(sigma, reach, s.taps);
    s.buffer.assign(size_t(stride + 2 * reach + kLanes), 0.0f);
    Scratch::grow(s.zeros, whole_lanes(copied));
    Scratch::grow(s.blurred, s.planes * rows * stride);
    Scratch::grow(s.lines, rows + 2 * reach);
    Scratch::grow(s.shifted, 2 * reach + 1);
    for (int64_t k = 0; k <= 2 * reach; ++k) s.shifted[size_t(k)] = s.buffer.data() + k;
    for (int p = 0; p < s.planes; ++p) {
        const float *first = plane.first + p * plane.plane_stride + plane.stride + 1 + copy_from;
        for (int64_t i = 0; i < rows + 2 * reach; ++i) {
            const bool inside = top + i >= 0 && top + i < image.height;
            s.lines[size_t(i)] = inside ? first + (top + i) * plane.stride : s.zeros.data();
        }
        const int64_t at = copied ? copy_from - left : 0;
        loops.blur_plane({s.taps.data(), reach, s.lines.data(), top + reach, rows, image.height, copied, at,
                          s.buffer.data(), s.shifted.data(), stride},
                         s.blurred.data() + p * rows * stride);
    }
    return {s.blurred.data(), x.first(), y.first(), stride, rows * stride};
}

// ---- views -------------------------------------------------------------------------------------

// Where a view looks along one axis. Rounding is monotone, so the corners bound all its points.
// Beyond [-1, side] everything is background, as it is at both ends.
Span looked_at(const Axis &axis, int64_t height, int64_t width, int64_t side) {
    const Span whole{-1.0f, float(side)};
    Span span{whole.high, whole.low};
    for (float row : {0.5f, float(height) - 0.5f})
        for (float column : {0.5f, float(width) - 0.5f}) {
            const float value = whole.bounded(axis.at(column, row));
            span = {std::min(span.low, value), std::max(span.high, value)};
        }
    return span;
}

Sight look(const Plane &plane, const RenderImage &image, const RenderView &view, const RenderJob &job,
           Scratch &s) {
    const int64_t height = view.grid_rows * job.patch_px, width = view.grid_columns * job.patch_px;
    const int64_t reach = blur_reach(view.sigma);
    const float shift = float(reach) - 0.5f;
    const Axis x_axis{view.map[0], view.map[1], view.map[2] + shift};
    const Axis y_axis{view.map[3], view.map[4], view.map[5] + shift};
    const Span x = looked_at(x_axis, height, width, image.width + 2 * reach);
    const Span y = looked_at(y_axis, height, width, image.height + 2 * reach);
    const Plane from = reach ? blur(plane, image, view.sigma, reach, x, y, *job.loops, s) : plane;
    Sight sight{from,         s.planes,    x_axis,      y_axis,     x,
                y,            width,       job.channels, {},        view.scale,
                {},           view.noise,  view.key,    view.speck, view.specks,
                view.colour,  view.folds,  {}};
    std::copy(image.background, image.background + 3, sight.background);
    std::copy(view.bias, view.bias + 3, sight.bias);
    std::copy(view.fold, view.fold + 3, sight.fold);
    return sight;
}

void write_view(const Sight &sight, const Lattice &lattice, const RenderView &view, const RenderJob &job) {
    const auto render = job.bfloat16 ? job.loops->render_bfloat16 : job.loops->render_float32;
    const int64_t pixel_bytes = job.channels * (job.bfloat16 ? 2 : 4);
    auto *out = static_cast<unsigned char *>(job.out) + view.first_row * lattice.area * pixel_bytes;
    for (int64_t row = 0; row < view.grid_rows; ++row)
        for (int64_t patch = 0; patch < view.grid_columns; patch += lattice.patches) {
            const int64_t pixels = std::min(lattice.patches, view.grid_columns - patch) * lattice.area;
            for (int64_t first = 0; first < pixels; first += kRun) {
                const Run run{lattice.column.data() + first, lattice.row.data() + first,
                              int32_t(patch * job.patch_px), int32_t(row * job.patch_px),
                              std::min(kRun, pixels - first)};
                render(sight, run, out);
                out += run.count * pixel_bytes;
            }
        }
}

// ---- all views ---------------------------------------------------------------------------------

using ViewsOfImages = std::vector<std::vector<size_t>>;

void render_images(const RenderJob &job, const ViewsOfImages &views_of, const Lattice &lattice,
                   std::atomic<size_t> &next) {
    Scratch s;
    for (size_t i = next++; i < job.images.size(); i = next++) {
        if (views_of[i].empty()) continue;
        const Plane plane = make_plane(job.images[i], job, s);
        for (size_t v : views_of[i]) {
            const Sight sight = look(plane, job.images[i], job.views[v], job, s);
            write_view(sight, lattice, job.views[v], job);
        }
    }
}

}  // namespace

int64_t blur_reach(double sigma) { return sigma < kSmallestSigma ? 0 : int64_t(std::ceil(kReach * sigma)); }

void render_views(const RenderJob &job, int threads) {
    ViewsOfImages views_of(job.images.size());
    for (size_t v = 0; v < job.views.size(); ++v) views_of[size_t(job.views[v].image)].push_back(v);
    const Lattice lattice(job.patch_px);
    std::atomic<size_t> next{0};
    std::exception_ptr failure;
    std::mutex lock;
    auto work = [&] {
        try {
            render_images(job, views_of, lattice, next);
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
    } catch (...) {
        // The system has no more threads, or no memory for one: those that started do it all.
    }
    work();
    for (auto &thread : crew) thread.join();
    if (failure) std::rethrow_exception(failure);
}
