// How well pairs of images agree: what Python hands over is checked here; same_picture_compare.cpp compares.
// Specification: aqqua/curate/copies/verify.py. Test: tests/curate/copies/test_same_picture.py.
#include "same_picture.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "arrays.hpp"

namespace py = pybind11;

namespace {

Pictures pictures_of(const py::array &pixels, const py::array &start, const py::array &shape) {
    const char *name = "same_pictures", *fix = "hand over what spill_pixels wrote";
    const int64_t count = int64_t(start.size()), size = int64_t(pixels.size());
    const Pictures pictures{values_of<float>(name, pixels, "pixels", {size}, fix),
                            values_of<int64_t>(name, start, "start_I", {count}, fix),
                            values_of<int32_t>(name, shape, "shape_I2", {count, 2}, fix), count};
    for (int64_t i = 0; i < count; ++i) {
        const int64_t height = pictures.shape[2 * i], width = pictures.shape[2 * i + 1];
        require(height >= 1 && width >= 1 && height <= (1 << 20) && width <= (1 << 20) &&
                    pictures.start[i] >= 0 && pictures.start[i] <= size - height * width,
                name, "every image must lie within the pixels",
                std::to_string(height) + " x " + std::to_string(width) + " at " +
                    std::to_string(pictures.start[i]) + " of " + std::to_string(size),
                fix);
    }
    return pictures;
}

void check_pairs(const int64_t *of_pair, int64_t pairs, int64_t images, const char *what) {
    for (int64_t p = 0; p < pairs; ++p)
        require(of_pair[p] >= 0 && of_pair[p] < images, "same_pictures",
                std::string(what) + " must be 0 to images - 1", std::to_string(of_pair[p]),
                "take them from the images given");
}

py::tuple same_pictures(const py::array &a_pixels, const py::array &a_start, const py::array &a_shape,
                        const py::array &b_pixels, const py::array &b_start, const py::array &b_shape,
                        const py::array &a_P, const py::array &b_P, const py::array &poses_PK,
                        const py::object &size_px, const py::object &shift_px, double correlation,
                        const py::object &threads_of_call) {
    const char *name = "same_pictures", *fix = "give one row for each pair";
    const Pictures a = pictures_of(a_pixels, a_start, a_shape), b = pictures_of(b_pixels, b_start, b_shape);
    const int64_t pairs = int64_t(a_P.size()), tried = poses_PK.ndim() == 2 ? poses_PK.shape(1) : 0;
    const int64_t *of_a = values_of<int64_t>(name, a_P, "a_P", {pairs}, fix);
    const int64_t *of_b = values_of<int64_t>(name, b_P, "b_P", {pairs}, fix);
    const int8_t *poses = values_of<int8_t>(name, poses_PK, "poses_PK", {pairs, tried}, fix);
    check_pairs(of_a, pairs, a.count, "a_P");
    check_pairs(of_b, pairs, b.count, "b_P");
    for (int64_t k = 0; k < pairs * tried; ++k)
        require(poses[k] < 8, name, "poses must be below 8", std::to_string(poses[k]), "count from 0");
    const Rule rule{int(whole_of(name, size_px, 0, 16, "size_px must be 0 to 16", "lower it")),
                    int(whole_of(name, shift_px, 0, 8, "shift_px must be 0 to 8", "lower it")), correlation};
    const int64_t threads = whole_of(name, threads_of_call, 1, 1024, "threads must be 1 to 1024", "set 1");
    py::array_t<double> numbers({pairs, int64_t(kNumbers)});
    py::array_t<int8_t> pose(pairs);
    double *numbers_P6 = numbers.mutable_data();
    int8_t *pose_P = pose.mutable_data();
    {
        py::gil_scoped_release release;
        compare_all(a, b, of_a, of_b, poses, pairs, tried, rule, threads, numbers_P6, pose_P);
    }
    return py::make_tuple(numbers, pose);
}

}  // namespace

void register_same_picture(py::module_ &module) {
    module.def("same_pictures", &same_pictures, py::arg("a_pixels"), py::arg("a_start"), py::arg("a_shape"),
               py::arg("b_pixels"), py::arg("b_start"), py::arg("b_shape"), py::arg("a_P"), py::arg("b_P"),
               py::arg("poses_PK"), py::kw_only(), py::arg("size_px"), py::arg("shift_px"),
               py::arg("correlation"), py::arg("threads") = 1);
}
