// What pairs of images are compared by, free of Python: same_picture.cpp checks and fills it,
// same_picture_compare.cpp runs it.
#pragma once

#include <cstdint>

constexpr int kNumbers = 6;  // correlation, smooth, gain, residual, detail, peak

struct Picture {
    const float *at;
    int height, width;
};

struct Rule {
    int size_px, shift_px;
    double correlation;
};

// The I images of one side: pixels one after the other.
struct Pictures {
    const float *pixels;
    const int64_t *start;
    const int32_t *shape;
    int64_t count;

    Picture operator[](int64_t i) const {
        return {pixels + start[i], int(shape[2 * i]), int(shape[2 * i + 1])};
    }
};

// Numbers [pairs, kNumbers] and the pose of each pair; the result does not depend on the threads.
void compare_all(const Pictures &a, const Pictures &b, const int64_t *a_P, const int64_t *b_P,
                 const int8_t *poses, int64_t pairs, int64_t tried, const Rule &rule, int64_t threads,
                 double *numbers, int8_t *pose);
