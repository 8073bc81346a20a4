// Keyed Feistel permutation of range(n) with cycle walking.
// Specification: aqqua/plan/permute.py, permute_reference. Test: tests/plan/test_permute.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "arrays.hpp"
#include "feistel.hpp"

namespace py = pybind11;

namespace {

constexpr const char *kPermute = "permute";

py::array_t<uint64_t> permute(const py::array &index, const py::object &n, const py::object &seed,
                              const py::object &stream) {
    const auto count = uint64_t(whole_of(kPermute, n, 1, int64_t(1) << 62, "n must be 1 to 2**62",
                                         "split the dataset"));
    const Permutation order(count, seed_of(kPermute, seed),
                            word_of(kPermute, stream, "stream", "number it anew"));
    const int64_t size = int64_t(index.size());
    const auto *in = values_of<uint64_t>(kPermute, index, "index", {size}, "give whole numbers below n");
    py::array_t<uint64_t> result(size);
    uint64_t *out = result.mutable_data();
    const uint64_t *outside;
    {
        const py::gil_scoped_release release;
        outside = std::find_if(in, in + size, [count](uint64_t i) { return i >= count; });
        if (outside == in + size) std::transform(in, in + size, out, order);
    }
    if (outside != in + size)
        require(false, kPermute, "every index must be below n",
                std::to_string(*outside) + " of " + std::to_string(count), "reduce it first");
    return result;
}

}  // namespace

void register_permute(py::module_ &module) {
    module.def("permute", &permute, py::arg("index"), py::arg("n"), py::arg("seed"), py::arg("stream"));
}
