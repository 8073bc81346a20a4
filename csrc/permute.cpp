// Keyed Feistel permutation of range(n) with cycle walking.
// Specification: aqqua/plan/permute.py, permute_reference. Test: tests/plan/test_permute.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "feistel.hpp"

namespace py = pybind11;

namespace {

py::array_t<uint64_t> permute(const py::array_t<uint64_t, py::array::c_style> &index, uint64_t n,
                              uint64_t seed, uint64_t stream) {
    if (n < 1 || n > (uint64_t(1) << 62))
        throw std::invalid_argument("permute: n must be 1 to 2**62, got " + std::to_string(n) +
                                    "; split the dataset");
    if (index.ndim() != 1)
        throw std::invalid_argument("permute: index must have one axis, got " +
                                    std::to_string(index.ndim()) + "; flatten it");
    py::array_t<uint64_t> result(index.size());
    const uint64_t *in = index.data();
    uint64_t *out = result.mutable_data();
    const py::ssize_t count = index.size();
    uint64_t bad = 0;
    bool outside = false;
    {
        py::gil_scoped_release release;
        const Permutation order(n, seed, stream);
        for (py::ssize_t i = 0; i < count && !outside; ++i) {
            if (in[i] >= n) {
                outside = true;
                bad = in[i];
                break;
            }
            out[i] = order(in[i]);
        }
    }
    if (outside)
        throw std::invalid_argument("permute: every index must be below n, got " + std::to_string(bad) +
                                    " of " + std::to_string(n) + "; reduce it first");
    return result;
}

}  // namespace

void register_permute(py::module_ &module) {
    module.def("permute", &permute, py::arg("index"), py::arg("n"), py::arg("seed"), py::arg("stream"));
}
