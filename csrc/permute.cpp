// Keyed Feistel permutation of range(n) with cycle walking.
// Specification: aqqua/plan/permute.py, permute_reference. Test: tests/plan/test_permute.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace py = pybind11;

namespace {

constexpr int kRounds = 8;

uint32_t mix(uint32_t x) {  // finaliser of MurmurHash3
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

uint32_t mix(uint32_t x, uint32_t salt) { return mix(x + salt * 0x9E3779B9u); }

struct Feistel {
    int half_bits;
    std::array<uint32_t, kRounds> keys;

    Feistel(uint64_t n, uint64_t seed, uint64_t stream) {
        int bits = 0;
        while (bits < 64 && ((n - 1) >> bits) != 0) ++bits;
        half_bits = bits < 2 ? 1 : (bits + 1) / 2;
        const uint32_t base = mix(uint32_t(seed)) ^ mix(uint32_t(seed >> 32) + 0x51EDu) ^
                              mix(uint32_t(stream), 3) ^ mix(uint32_t(stream >> 32), 5);
        for (int i = 0; i < kRounds; ++i) keys[i] = mix(base ^ mix(uint32_t(i), 7));
    }

    uint64_t operator()(uint64_t x) const {
        const uint64_t mask = (uint64_t(1) << half_bits) - 1;
        uint64_t left = x >> half_bits, right = x & mask;
        for (uint32_t key : keys) {
            const uint64_t next = left ^ (mix(uint32_t(right) ^ key) & mask);
            left = right;
            right = next;
        }
        return (left << half_bits) | right;
    }
};

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
        const Feistel feistel(n, seed, stream);
        for (py::ssize_t i = 0; i < count && !outside; ++i) {
            if (in[i] >= n) {
                outside = true;
                bad = in[i];
                break;
            }
            uint64_t x = feistel(in[i]);
            while (x >= n) x = feistel(x);
            out[i] = x;
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
