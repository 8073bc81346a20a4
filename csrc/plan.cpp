// aqqua._core.plan_views: checks what Python hands over and plans without the GIL.
// Specification: aqqua/plan/views.py, plan_views_reference. Test: tests/plan/test_views_native.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "plan_views.hpp"

namespace py = pybind11;

namespace {

using std::to_string;
using Pair = std::array<double, 2>;  // low, high

constexpr int64_t kMostViews = 64;  // of an image; the config allows 18
// Numbers of the config stay between these, as in aqqua/plan/view_config.py, so that no step of a plan
// over- or underflows: its results are finite for any image.
constexpr double kSmallest = 1e-6, kLargest = 1e6;
constexpr int32_t kMostTokens = 1 << 22;  // of a view: the largest pack (LaneConfig.pack_tokens)
constexpr int64_t kLargestPatch = 1024;   // px
constexpr float kSmallestScale = 1e-30f, kLargestScale = 1e30f;  // µm per px

void require(bool holds, const char *what, const std::string &got, const char *fix) {
    ::require(holds, "plan_views", what, got, fix);
}

template <typename T>
const T *image_values(const py::array &array, const char *name, const std::vector<int64_t> &shape) {
    return ::values_of<T>("plan_views", array, name, shape, "take them from a dataset");
}

template <typename T>
const T *config_values(const py::array &array, const char *name, const std::vector<int64_t> &shape) {
    return ::values_of<T>("plan_views", array, name, shape, "take it from the ViewConfig");
}

// What an image must be for its views to be planned; the first that is not is named.
void require_plannable(const PlanImages &images) {
    for (int64_t i = 0; i < images.count; ++i) {
        const bool sized = images.height[i] >= 1 && images.width[i] >= 1;
        const bool deep = images.bits[i] == 8 || images.bits[i] == 16;
        const float um = images.um_per_px[i];
        const bool scaled = std::isnan(um) || (um >= kSmallestScale && um <= kLargestScale);
        const bool counted = images.visit[i] >> 32 == 0;
        if (sized && deep && scaled && counted) continue;
        const std::string at = " of image " + to_string(i);
        require(sized, ("height and width" + at + " must be at least 1 px").c_str(),
                to_string(images.height[i]) + " x " + to_string(images.width[i]), "leave it out");
        require(deep, ("bits" + at + " must be 8 or 16").c_str(), to_string(images.bits[i]),
                "ingest it again");
        require(scaled, ("um_per_px" + at + " must be 1e-30 to 1e30, or NaN where unknown").c_str(),
                py::str(py::float_(double(um))).cast<std::string>(), "ingest it again");
        require(counted, ("visit" + at + " must be below 2**32").c_str(), to_string(images.visit[i]),
                "count visits from 0");
    }
}

struct ImageArguments {
    py::array key_I, height_I, width_I, channels_I, bits_I, um_per_px_I, background_I3, box_I4, visit_I;
};

PlanImages images_of(const ImageArguments &given) {
    const int64_t n = int64_t(given.key_I.size());
    const PlanImages images{n,
                            image_values<uint64_t>(given.key_I, "key_I", {n}),
                            image_values<int32_t>(given.height_I, "height_I", {n}),
                            image_values<int32_t>(given.width_I, "width_I", {n}),
                            image_values<int8_t>(given.channels_I, "channels_I", {n}),
                            image_values<int8_t>(given.bits_I, "bits_I", {n}),
                            image_values<float>(given.um_per_px_I, "um_per_px_I", {n}),
                            image_values<uint16_t>(given.background_I3, "background_I3", {n, 3}),
                            image_values<int32_t>(given.box_I4, "box_I4", {n, 4}),
                            image_values<uint64_t>(given.visit_I, "visit_I", {n})};
    require_plannable(images);
    return images;
}

void require_number(double value, const char *name, double low, double high) {
    if (value >= low && value <= high) return;
    const auto text = [](double number) { return py::str(py::float_(number)).cast<std::string>(); };
    require(false, (std::string(name) + " must be " + text(low) + " to " + text(high)).c_str(), text(value),
            "correct views in the config");
}

void require_numbers(const double *values, int64_t count, const char *name, double low, double high) {
    bool all = true;  // first without a branch: the tables are long
    for (int64_t k = 0; k < count; ++k) all &= (values[k] >= low) & (values[k] <= high);
    for (int64_t k = 0; k < count && !all; ++k) require_number(values[k], name, low, high);
}

PlanRange range_of(const Pair &pair) { return {pair[0], pair[1]}; }

void require_range(PlanRange range, const char *name, double low, double high = kLargest) {
    require_number(range.low, name, low, high);
    require_number(range.high, name, low, high);
}

// The numbers of the config that all views share.
void require_shared(const PlanConfig &config) {
    require_number(config.max_magnify, "max_magnify", 1, kLargest);
    require_number(config.max_reduce, "max_reduce", 1, kLargest);
    require_range(config.gain, "gain", 0);
    require_range(config.offset, "offset", -kLargest);
    require_range(config.saturation, "saturation", 0);
    require_number(config.photometric_odds, "photometric_odds", 0, 1);
    require_number(config.grey_odds, "grey_odds", 0, 1);
    require_range(config.blur_sigma_px, "blur_sigma_px", 0);
    require_range(config.noise, "noise", 0);
    require_number(config.speck_odds, "speck_odds", 0, 1);
    require_range(config.speck_radius, "speck_radius", 0, 1);
    require_range(config.speck_depth, "speck_depth", 0, 1);
    require_number(config.mean, "mean", -kLargest, kLargest);
    require_number(config.std, "std", kSmallest, kLargest);
}

struct ViewArguments {
    py::array area_S2, tokens_S2, invert_odds_S, solarize_odds_S, blur_odds_S;
    py::array directions_Q2, aspect_Q, zoom_Q, hue_Q2, quarter_turn_33;
};

// The tables of the config: quantiles of what is not drawn uniformly.
void fill_tables(PlanConfig &config, const ViewArguments &given) {
    config.directions = config_values<double>(given.directions_Q2, "directions_Q2", {kQuantiles, 2});
    config.aspect = config_values<double>(given.aspect_Q, "aspect_Q", {kQuantiles});
    config.zoom = config_values<double>(given.zoom_Q, "zoom_Q", {kQuantiles});
    config.hue = config_values<double>(given.hue_Q2, "hue_Q2", {kQuantiles, 2});
    config.quarter_turn = config_values<double>(given.quarter_turn_33, "quarter_turn_33", {3, 3});
    require_numbers(config.directions, 2 * kQuantiles, "directions_Q2", -1, 1);
    require_numbers(config.aspect, kQuantiles, "aspect_Q", kSmallest, kLargest);
    require_numbers(config.zoom, kQuantiles, "zoom_Q", kSmallest, kLargest);
    require_numbers(config.hue, 2 * kQuantiles, "hue_Q2", -1, 1);
    require_numbers(config.quarter_turn, 9, "quarter_turn_33", -10, 10);
}

// The arrays of the config that say what each of the S views may be.
void fill_per_view(PlanConfig &config, const ViewArguments &given) {
    const int64_t n = int64_t(given.blur_odds_S.size());
    require(n >= 1 && n <= kMostViews, "an image must have 1 to 64 views", to_string(n),
            "lower views.locals");
    config.views = n;
    config.area = config_values<double>(given.area_S2, "area_S2", {n, 2});
    config.tokens = config_values<int32_t>(given.tokens_S2, "tokens_S2", {n, 2});
    config.invert_odds = config_values<double>(given.invert_odds_S, "invert_odds_S", {n});
    config.solarize_odds = config_values<double>(given.solarize_odds_S, "solarize_odds_S", {n});
    config.blur_odds = config_values<double>(given.blur_odds_S, "blur_odds_S", {n});
    require_numbers(config.area, 2 * n, "area_S2", kSmallest, kLargest);
    for (int64_t k = 0; k < 2 * n; ++k) require_number(config.tokens[k], "tokens_S2", 1, kMostTokens);
    require_numbers(config.invert_odds, n, "invert_odds_S", 0, 1);
    require_numbers(config.solarize_odds, n, "solarize_odds_S", 0, 1);
    require_numbers(config.blur_odds, n, "blur_odds_S", 0, 1);
}

// Plans into new arrays, named as the fields of aqqua.plan.views.Views.
py::dict planned(const PlanImages &images, const PlanConfig &config) {
    const int64_t n = images.count, views = config.views, three = 3;
    py::array_t<int32_t> grid({n, views, int64_t(2)});
    py::array_t<float> map({n, views, int64_t(2), three}), bias({n, views, three}), fold({n, views, three});
    py::array_t<float> um_per_px({n, views}), sigma({n, views}), scale({n, views}), noise({n, views});
    py::array_t<float> speck({n, views, config.specks, int64_t(4)}), colour({n, views, three, three});
    const PlannedViews out{grid.mutable_data(),  map.mutable_data(),    um_per_px.mutable_data(),
                           sigma.mutable_data(), scale.mutable_data(),  noise.mutable_data(),
                           bias.mutable_data(),  speck.mutable_data(),  colour.mutable_data(),
                           fold.mutable_data()};
    {
        const py::gil_scoped_release release;
        plan_views(images, config, out);
    }
    using py::operator""_a;
    return py::dict("grid_IS2"_a = grid, "map_IS23"_a = map, "um_per_px_IS"_a = um_per_px,
                    "sigma_IS"_a = sigma, "scale_IS"_a = scale, "bias_ISC"_a = bias, "noise_IS"_a = noise,
                    "speck_ISK4"_a = speck, "colour_IS33"_a = colour, "fold_ISC"_a = fold);
}

py::dict plan_window(const py::array &key_I, const py::array &height_I, const py::array &width_I,
                     const py::array &channels_I, const py::array &bits_I, const py::array &um_per_px_I,
                     const py::array &background_I3, const py::array &box_I4, const py::array &visit_I,
                     const py::object &seed, const py::object &patch_px, const py::array &area_S2,
                     const py::array &tokens_S2, const py::array &invert_odds_S,
                     const py::array &solarize_odds_S, const py::array &blur_odds_S,
                     const py::array &directions_Q2, const py::array &aspect_Q, const py::array &zoom_Q,
                     const py::array &hue_Q2, const py::array &quarter_turn_33, bool square, bool rotate,
                     bool flip, bool organism_aware, double max_magnify, double max_reduce, const Pair &gain,
                     const Pair &offset, const Pair &saturation, double photometric_odds, double grey_odds,
                     const Pair &blur_sigma_px, const Pair &noise, const py::object &specks,
                     double speck_odds, const Pair &speck_radius, const Pair &speck_depth,
                     bool subtract_background, double mean, double std) {
    const PlanImages images = images_of(
        {key_I, height_I, width_I, channels_I, bits_I, um_per_px_I, background_I3, box_I4, visit_I});
    PlanConfig config{};
    config.seed = seed_of("plan_views", seed);
    config.patch_px = double(whole_of("plan_views", patch_px, 1, kLargestPatch, "patch_px must be 1 to 1024",
                                      "set model.patch_px"));
    config.specks = whole_of("plan_views", specks, 0, kMostSpecks, "specks must be 0 to 8",
                             "correct views in the config");
    std::tie(config.square, config.rotate, config.flip) = std::tie(square, rotate, flip);
    std::tie(config.organism_aware, config.subtract_background) =
        std::tie(organism_aware, subtract_background);
    std::tie(config.max_magnify, config.max_reduce) = std::tie(max_magnify, max_reduce);
    std::tie(config.photometric_odds, config.grey_odds) = std::tie(photometric_odds, grey_odds);
    std::tie(config.speck_odds, config.mean, config.std) = std::tie(speck_odds, mean, std);
    config.gain = range_of(gain);
    config.offset = range_of(offset);
    config.saturation = range_of(saturation);
    config.blur_sigma_px = range_of(blur_sigma_px);
    config.noise = range_of(noise);
    config.speck_radius = range_of(speck_radius);
    config.speck_depth = range_of(speck_depth);
    require_shared(config);
    const ViewArguments arrays{area_S2,       tokens_S2, invert_odds_S, solarize_odds_S, blur_odds_S,
                               directions_Q2, aspect_Q,  zoom_Q,        hue_Q2,          quarter_turn_33};
    fill_per_view(config, arrays);
    fill_tables(config, arrays);
    return planned(images, config);
}

}  // namespace

void register_plan(py::module_ &module) {
    using py::operator""_a;
    module.def("plan_views", &plan_window, py::kw_only(), "key_I"_a, "height_I"_a, "width_I"_a,
               "channels_I"_a, "bits_I"_a, "um_per_px_I"_a, "background_I3"_a, "box_I4"_a, "visit_I"_a,
               "seed"_a, "patch_px"_a, "area_S2"_a, "tokens_S2"_a, "invert_odds_S"_a, "solarize_odds_S"_a,
               "blur_odds_S"_a, "directions_Q2"_a, "aspect_Q"_a, "zoom_Q"_a, "hue_Q2"_a, "quarter_turn_33"_a,
               "square"_a, "rotate"_a, "flip"_a, "organism_aware"_a, "max_magnify"_a, "max_reduce"_a,
               "gain"_a, "offset"_a, "saturation"_a, "photometric_odds"_a, "grey_odds"_a, "blur_sigma_px"_a,
               "noise"_a, "specks"_a, "speck_odds"_a, "speck_radius"_a, "speck_depth"_a,
               "subtract_background"_a, "mean"_a, "std"_a);
}
