// What every binding asks of what it is handed: arrays of exact type, shape and layout, whole numbers within
// bounds, or a clear error.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

// Raises ValueError "<operation>: <what must hold>, got <value>; <how to fix>".
inline void require(bool holds, const char *operation, const std::string &what, const std::string &got,
                    const std::string &fix) {
    if (!holds)
        throw std::invalid_argument(std::string(operation) + ": " + what + ", got " + got + "; " + fix);
}

inline std::string shape_text(const pybind11::array &array) {
    std::string text = pybind11::str(array.dtype()).cast<std::string>() + " [";
    for (pybind11::ssize_t d = 0; d < array.ndim(); ++d)
        text += (d ? ", " : "") + std::to_string(array.shape(d));
    return text + "]";
}

inline bool is_contiguous(const pybind11::array &array) {
    return (array.flags() & pybind11::array::c_style) != 0;
}

// The values of an array whose type, shape and layout must be exactly these.
template <typename T>
const T *values_of(const char *operation, const pybind11::array &array, const std::string &name,
                   const std::vector<int64_t> &shape, const std::string &fix) {
    bool fits = pybind11::isinstance<pybind11::array_t<T>>(array) && is_contiguous(array) &&
                reinterpret_cast<uintptr_t>(array.data()) % alignof(T) == 0 &&
                array.ndim() == pybind11::ssize_t(shape.size());
    for (size_t d = 0; fits && d < shape.size(); ++d) fits = array.shape(pybind11::ssize_t(d)) == shape[d];
    if (!fits) {  // the sentence is only built when it is said: NumPy names a type in Python, slowly
        std::string sides;
        for (int64_t side : shape) sides += (sides.empty() ? "" : ", ") + std::to_string(side);
        require(false, operation,
                name + " must be contiguous " +
                    pybind11::str(pybind11::dtype::of<T>()).cast<std::string>() + " [" + sides + "]",
                shape_text(array), fix);
    }
    return static_cast<const T *>(array.data());
}

// A whole number of Python from `low` to `high`. An error ends in `beside`, after the number.
inline int64_t whole_of(const char *operation, const pybind11::object &number, int64_t low, int64_t high,
                        const std::string &what, const std::string &fix, const std::string &beside = "") {
    const auto index = pybind11::reinterpret_steal<pybind11::object>(PyNumber_Index(number.ptr()));
    int overflow = 0;
    const int64_t value = index ? PyLong_AsLongLongAndOverflow(index.ptr(), &overflow) : 0;
    PyErr_Clear();
    if (!index || overflow || value < low || value > high)
        require(false, operation, what, pybind11::str(number).cast<std::string>() + beside, fix);
    return value;
}

// A whole number of Python that is any 64 bits.
inline uint64_t word_of(const char *operation, const pybind11::object &number, const std::string &name,
                        const std::string &fix) {
    const auto index = pybind11::reinterpret_steal<pybind11::object>(PyNumber_Index(number.ptr()));
    const uint64_t value = index ? PyLong_AsUnsignedLongLong(index.ptr()) : 0;
    const bool outside = PyErr_Occurred() != nullptr;
    PyErr_Clear();
    if (outside)
        require(false, operation, name + " must be 0 to 2**64 - 1",
                pybind11::str(number).cast<std::string>(), fix);
    return value;
}

// A seed is any 64 bits.
inline uint64_t seed_of(const char *operation, const pybind11::object &seed) {
    return word_of(operation, seed, "seed", "set another seed");
}
