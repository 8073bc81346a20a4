// aqqua._core.render: checks what Python hands over and renders without the GIL.
// Specification: aqqua/render/reference.py. Test: tests/render/test_native.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "render_views.hpp"

namespace py = pybind11;

namespace {

constexpr double kLargestSigma = 1000;         // source px; bounds the memory a plan can ask for
constexpr int64_t kLargestSide = (1 << 24) - 1;  // float32 counts no further
constexpr int64_t kMostSpecks = 8;  // aqqua.plan.view_config.MOST_SPECKS
constexpr float kNoFold = 1e30f;    // aqqua.plan.views.NO_FOLD
constexpr int64_t kMostPixels = std::numeric_limits<int32_t>::max();  // of a plane or a view

using std::to_string;

float luma_of(const float *rgb) { return rgb[0] * kLuma[0] + rgb[1] * kLuma[1] + rgb[2] * kLuma[2]; }

constexpr const char *kRender = "render";

void require(bool holds, const std::string &what, const std::string &got, const std::string &fix) {
    ::require(holds, kRender, what, got, fix);
}

// For what is asked of every image and view: the text is made only when it is needed, for it takes
// as long as many pixels.
[[noreturn]] void refuse(const std::string &what, const std::string &got, const std::string &fix) {
    require(false, what, got, fix);
    throw std::logic_error("unreachable");
}

template <typename T>
const T *values_of(const py::array &array, const std::string &name, const std::vector<int64_t> &shape) {
    return ::values_of<T>(kRender, array, name, shape, "take it from a Pack");
}

void require_finite(const float *values, int64_t count, const char *name, int64_t view) {
    for (int64_t k = 0; k < count; ++k)
        if (!std::isfinite(values[k]))
            refuse(name + (" of view " + to_string(view)) + " must be finite", to_string(values[k]),
                   "plan the pack again");
}

std::vector<std::string> names_of_loops() {
    std::vector<std::string> names;
    for (const Loops *loops : loops_here()) names.push_back(loops->name);
    return names;
}

const Loops *loops_named(const std::string &name) {
    std::string names;
    for (const Loops *loops : loops_here()) {
        if (name == "auto" || name == loops->name) return loops;
        names += std::string(", ") + loops->name;
    }
    refuse("simd must be one of auto" + names + " on this machine", name, "pass auto");
}

// What the plan says of the images, and their pixels.
struct ImageArguments {
    py::list pixels_I;
    py::array height_I, width_I, channels_I, bits_I, background_I3;
};

// The pixels as planned: uint8 or uint16, (H, W) or (H, W, 3), contiguous. Alignment does not matter.
const unsigned char *pixels_of(const py::handle &item, const RenderImage &image, int64_t i) {
    if (!py::isinstance<py::array>(item))
        refuse("image " + to_string(i) + " must be a NumPy array",
               py::str(py::type::handle_of(item)).cast<std::string>(), "decode it first");
    const auto array = py::reinterpret_borrow<py::array>(item);
    const bool typed = image.wide ? py::isinstance<py::array_t<uint16_t>>(array)
                                  : py::isinstance<py::array_t<uint8_t>>(array);
    const bool shaped = array.ndim() == (image.channels == 3 ? 3 : 2) && array.shape(0) == image.height &&
                        array.shape(1) == image.width && (image.channels == 1 || array.shape(2) == 3);
    if (!typed || !shaped)
        refuse("image " + to_string(i) + " must be " + (image.wide ? "uint16 [" : "uint8 [") +
                   to_string(image.height) + ", " + to_string(image.width) +
                   (image.channels == 3 ? ", 3]" : "]") + " as planned",
               shape_text(array), "plan it anew");
    if (!is_contiguous(array))
        refuse("image " + to_string(i) + " must be C-contiguous", "other strides",
               "call np.ascontiguousarray");
    return static_cast<const unsigned char *>(array.data());
}

std::vector<RenderImage> images_of(const ImageArguments &given, int channels) {
    const int64_t n = int64_t(given.height_I.size());
    require(int64_t(given.pixels_I.size()) == n, "one image per plan entry must be given",
            to_string(given.pixels_I.size()) + " of " + to_string(n), "fetch them all");
    const auto *height = values_of<int32_t>(given.height_I, "height_I", {n});
    const auto *width = values_of<int32_t>(given.width_I, "width_I", {n});
    const auto *planned_channels = values_of<int8_t>(given.channels_I, "channels_I", {n});
    const auto *bits = values_of<int8_t>(given.bits_I, "bits_I", {n});
    const auto *background = values_of<uint16_t>(given.background_I3, "background_I3", {n, 3});
    std::vector<RenderImage> images;
    for (int64_t i = 0; i < n; ++i) {
        if (height[i] < 1 || width[i] < 1 || height[i] > kLargestSide || width[i] > kLargestSide)
            refuse("sides of image " + to_string(i) + " must be 1 to 2**24 - 1 px",
                   to_string(height[i]) + " x " + to_string(width[i]), "leave it out");
        if ((planned_channels[i] != 1 && planned_channels[i] != 3) || (bits[i] != 8 && bits[i] != 16))
            refuse("image " + to_string(i) + " must have 1 or 3 channels of 8 or 16 bits",
                   to_string(planned_channels[i]) + " of " + to_string(bits[i]), "ingest it again");
        RenderImage image{nullptr, height[i], width[i], planned_channels[i], bits[i] == 16, {}};
        image.pixels = pixels_of(given.pixels_I[size_t(i)], image, i);
        const float full = image.wide ? 65535.0f : 255.0f;
        for (int c = 0; c < 3; ++c) image.background[c] = float(background[3 * i + c]) / full;
        if (channels == 1) image.background[0] = luma_of(image.background);
        images.push_back(image);
    }
    return images;
}

// What the plan says of the views. Letters as in aqqua.plan.pack.Pack.
struct ViewArguments {
    py::array image_V, grid_V2, map_V23, sigma_V, scale_V, bias_V3, noise_V, key_V;
    py::array speck_VK4, colour_V33, fold_V3;
};

// Where the values of each array begin; K specks of a view.
struct ViewArrays {
    const int64_t *image;
    const int32_t *grid;
    const float *map, *sigma, *scale, *bias, *noise;
    const uint64_t *key;
    const float *speck, *colour, *fold;
    int64_t views, specks;
};

ViewArrays arrays_of(const ViewArguments &given) {
    const int64_t n = int64_t(given.image_V.size());
    const int64_t specks = given.speck_VK4.ndim() == 3 ? int64_t(given.speck_VK4.shape(1)) : 0;
    require(specks <= kMostSpecks, "specks of a view must be at most 8", to_string(specks),
            "lower views.specks");
    return {values_of<int64_t>(given.image_V, "image_V", {n}),
            values_of<int32_t>(given.grid_V2, "grid_V2", {n, 2}),
            values_of<float>(given.map_V23, "map_V23", {n, 2, 3}),
            values_of<float>(given.sigma_V, "sigma_V", {n}),
            values_of<float>(given.scale_V, "scale_V", {n}),
            values_of<float>(given.bias_V3, "bias_V3", {n, 3}),
            values_of<float>(given.noise_V, "noise_V", {n}),
            values_of<uint64_t>(given.key_V, "key_V", {n}),
            values_of<float>(given.speck_VK4, "speck_VK4", {n, specks, 4}),
            values_of<float>(given.colour_V33, "colour_V33", {n, 3, 3}),
            values_of<float>(given.fold_V3, "fold_V3", {n, 3}),
            n,
            specks};
}

bool is_identity(const float *matrix) {
    for (int k = 0; k < 9; ++k)
        if (matrix[k] != (k % 4 ? 0.0f : 1.0f)) return false;
    return true;
}

// A plan must not ask for more memory than the indices of a plane or a view can count.
void require_sane(const RenderView &view, int64_t v, const RenderJob &job) {
    const auto name = [v] { return "view " + to_string(v); };
    if (view.image < 0 || view.image >= int64_t(job.images.size()))
        refuse("image of " + name() + " must be one of the pack", to_string(view.image),
               "plan the pack again");
    const int64_t side = kMostPixels / job.patch_px;
    if (view.grid_rows < 1 || view.grid_columns < 1 || view.grid_rows > side || view.grid_columns > side ||
        view.grid_rows * job.patch_px > kMostPixels / (view.grid_columns * job.patch_px))
        refuse("grid of " + name() + " must be 1 patch to 2**31 pixels",
               to_string(view.grid_rows) + " x " + to_string(view.grid_columns), "lower views.max_tokens");
    if (!(view.sigma >= 0 && view.sigma <= kLargestSigma))
        refuse("sigma of " + name() + " must be 0 to 1000 px", to_string(view.sigma),
               "lower views.blur_sigma_px or views.max_reduce");
    const RenderImage &image = job.images[size_t(view.image)];
    const int64_t rim = 2 * blur_reach(view.sigma) + 64;
    if (image.height + rim > kMostPixels / (image.width + rim))
        refuse("image " + to_string(view.image) + " and its blur must have fewer than 2**31 pixels",
               to_string(image.height) + " x " + to_string(image.width), "leave it out or reduce it");
}

void require_finite(const ViewArrays &given, int64_t v) {
    require_finite(given.map + 6 * v, 6, "map", v);
    require_finite(given.sigma + v, 1, "sigma", v);
    require_finite(given.scale + v, 1, "scale", v);
    require_finite(given.bias + 3 * v, 3, "bias", v);
    require_finite(given.noise + v, 1, "noise", v);
    require_finite(given.speck + 4 * given.specks * v, 4 * given.specks, "speck", v);
    require_finite(given.colour + 9 * v, 9, "colour", v);
    require_finite(given.fold + 3 * v, 3, "fold", v);
}

// The views of the job, and the patch rows they fill.
void add_views(const ViewArguments &arguments, RenderJob &job) {
    const ViewArrays given = arrays_of(arguments);
    job.views.reserve(size_t(given.views));
    for (int64_t v = 0; v < given.views; ++v) {
        require_finite(given, v);
        const float *colour = given.colour + 9 * v, *fold = given.fold + 3 * v, *bias = given.bias + 3 * v;
        RenderView view{given.image[v],
                        given.grid[2 * v],
                        given.grid[2 * v + 1],
                        given.map + 6 * v,
                        double(given.sigma[v]),
                        given.scale[v],
                        given.noise[v],
                        {bias[0], bias[1], bias[2]},
                        given.key[v],
                        given.speck + 4 * given.specks * v,
                        given.specks,
                        job.channels == 1 || is_identity(colour) ? nullptr : colour,
                        std::min({fold[0], fold[1], fold[2]}) < kNoFold,
                        {fold[0], fold[1], fold[2]},
                        job.rows};
        if (job.channels == 1) {
            view.bias[0] = luma_of(view.bias);
            view.fold[0] = luma_of(view.fold);
        }
        require_sane(view, v, job);
        job.views.push_back(view);
        job.rows += view.grid_rows * view.grid_columns;
    }
}

// `out` must have room for exactly all patch rows, as float32 or as the bits of bfloat16.
void lay_out(RenderJob &job, py::array &out) {
    const std::vector<int64_t> shape{job.rows, job.patch_px * job.patch_px * job.channels};
    job.bfloat16 = py::isinstance<py::array_t<uint16_t>>(out);
    if (job.bfloat16)
        values_of<uint16_t>(out, "out", shape);
    else
        values_of<float>(out, "out", shape);
    require(out.writeable(), "out must be writeable", "a read-only array", "allocate it with np.empty");
    job.out = out.mutable_data();
}

void render(const py::list &pixels_I, const py::array &height_I, const py::array &width_I,
            const py::array &channels_I, const py::array &bits_I, const py::array &background_I3,
            const py::array &image_V, const py::array &grid_V2, const py::array &map_V23,
            const py::array &sigma_V, const py::array &scale_V, const py::array &bias_V3,
            const py::array &noise_V, const py::array &key_V, const py::array &speck_VK4,
            const py::array &colour_V33, const py::array &fold_V3, int64_t patch_px, int channels,
            int threads, const std::string &simd, py::array &out) {
    require(patch_px >= 1 && patch_px <= 1024, "patch_px must be 1 to 1024", to_string(patch_px),
            "set model.patch_px");
    require(channels == 1 || channels == 3, "channels must be 1 or 3", to_string(channels),
            "set model.channels");
    require(threads >= 1 && threads <= 1024, "threads must be 1 to 1024", to_string(threads),
            "pass the number of cores");
    RenderJob job{loops_named(simd), patch_px, channels, {}, {}, 0, nullptr, false};
    // A copy of the list: another thread may change the caller's while the GIL is released.
    const py::list pixels = py::list(pixels_I[py::slice(0, py::ssize_t(pixels_I.size()), 1)]);
    job.images = images_of({pixels, height_I, width_I, channels_I, bits_I, background_I3}, channels);
    add_views({image_V, grid_V2, map_V23, sigma_V, scale_V, bias_V3, noise_V, key_V, speck_VK4, colour_V33,
               fold_V3},
              job);
    lay_out(job, out);
    const py::gil_scoped_release release;
    render_views(job, threads);
}

}  // namespace

void register_render(py::module_ &module) {
    using py::operator""_a;
    module.def("render", &render, py::kw_only(), "pixels_I"_a, "height_I"_a, "width_I"_a, "channels_I"_a,
               "bits_I"_a, "background_I3"_a, "image_V"_a, "grid_V2"_a, "map_V23"_a, "sigma_V"_a,
               "scale_V"_a, "bias_V3"_a, "noise_V"_a, "key_V"_a, "speck_VK4"_a, "colour_V33"_a, "fold_V3"_a,
               "patch_px"_a, "channels"_a, "threads"_a, "simd"_a, "out"_a);
    module.def("render_simd", &names_of_loops);
}
