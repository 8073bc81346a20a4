// Sums over the pixels of two images, row by row: the hot loops of same_picture_compare.cpp.
// Sums of products are of float32 in 16 lanes, at most 256 terms each before they go into a double: exact
// where pixels are whole numbers to 255, so grey images of 8 bits give the bits of the specification.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "inline.hpp"
#include "same_picture.hpp"

namespace {

constexpr int kRow = 16;     // rows of the first image are padded with zeros to a multiple of this
constexpr int kTerms = 128;  // products added up in float32

typedef float Lanes16 __attribute__((vector_size(4 * kRow)));  // GCC leaves an array of lanes in memory

AQQUA_INLINE void add_products(Lanes16 &lanes, const float *a, const float *b) {
    Lanes16 one, other;
    std::memcpy(&one, a, sizeof one);
    std::memcpy(&other, b, sizeof other);
    lanes += one * other;
}

// Sum of the products of `rows` rows: of a, padded, with those of b, `b_stride` apart.
AQQUA_HOT double products(const float *a, const float *b, int rows, int padded, int b_stride) {
    double total = 0;
    const int at_once = std::max(kTerms * kRow / padded, 1) * 2;
    for (int first = 0; first < rows; first += at_once) {
        Lanes16 even = {}, odd = {};  // rows by turns, so that additions need not wait for each other
        const int last = std::min(first + at_once, rows);
        int y = first;
        for (; y + 1 < last; y += 2) {
            const float *one = a + int64_t(y) * padded, *other = b + int64_t(y) * b_stride;
            for (int x = 0; x < padded; x += kRow) {
                add_products(even, one + x, other + x);
                add_products(odd, one + padded + x, other + b_stride + x);
            }
        }
        if (y < last)
            for (int x = 0; x < padded; x += kRow)
                add_products(even, a + int64_t(y) * padded + x, b + int64_t(y) * b_stride + x);
        for (int k = 0; k < kRow; ++k) total += double(even[k]) + double(odd[k]);
    }
    return total;
}

// Adds (or takes away) a row and its squares to the sums of columns.
AQQUA_HOT void add_row(const float *row, int width, double sign, double *sums, double *squares) {
    for (int x = 0; x < width; ++x) {
        const double value = double(row[x]);
        sums[x] += sign * value;
        squares[x] += sign * (value * value);
    }
}

AQQUA_HOT double squares_of(const float *row, int width) {
    double lanes[8] = {}, sum = 0;
    int x = 0;
    for (; x + 8 <= width; x += 8)
        for (int k = 0; k < 8; ++k) lanes[k] += double(row[x + k]) * double(row[x + k]);
    for (; x < width; ++x) sum += double(row[x]) * double(row[x]);
    for (double lane : lanes) sum += lane;
    return sum;
}

// 3 x 3 sums of an image, edges repeated.
AQQUA_HOT void nine(const Picture &image, double *column, double *out) {
    const int height = image.height, width = image.width;
    for (int y = 0; y < height; ++y) {
        const float *up = image.at + int64_t(std::max(y - 1, 0)) * width;
        const float *here = image.at + int64_t(y) * width;
        const float *down = image.at + int64_t(std::min(y + 1, height - 1)) * width;
        for (int x = 0; x < width; ++x) column[x + 1] = (double(up[x]) + double(here[x])) + double(down[x]);
        column[0] = column[1];
        column[width + 1] = column[width];
        double *row = out + int64_t(y) * width;
        for (int x = 0; x < width; ++x) row[x] = (column[x] + column[x + 1]) + column[x + 2];
    }
}

typedef double Lanes8 __attribute__((vector_size(64)));

constexpr int kSums = 8;  // of a row: 3 x 3 of a, b, their products aa, ab, bb, and those of the detail

// Adds a row of what is compared to the sums; `nine_a` and `nine_b` are the sums over 3 x 3 pixels.
AQQUA_HOT void add_sums(const double *nine_a, const double *nine_b, const float *a, const float *b, int width,
                        double *sums) {
    Lanes8 lanes[kSums] = {};
    for (int x = 0; x < width; x += 8) {
        Lanes8 sa = {}, sb = {}, pa = {}, pb = {};
        for (int k = 0; k < std::min(8, width - x); ++k)
            sa[k] = nine_a[x + k], sb[k] = nine_b[x + k], pa[k] = double(a[x + k]), pb[k] = double(b[x + k]);
        const Lanes8 fine_a = 9.0 * pa - sa, fine_b = 9.0 * pb - sb;
        lanes[0] += sa, lanes[1] += sb, lanes[2] += sa * sa, lanes[3] += sa * sb, lanes[4] += sb * sb;
        lanes[5] += fine_a * fine_a, lanes[6] += fine_a * fine_b, lanes[7] += fine_b * fine_b;
    }
    for (int n = 0; n < kSums; ++n)
        for (int k = 0; k < 8; ++k) sums[n] += lanes[n][k];
}

// The largest |(b - mean_b) - gain (a - mean_a)| of a row.
AQQUA_HOT double most_left(const double *a, const double *b, int width, double mean_a, double mean_b,
                           double gain) {
    double most[8] = {};
    int x = 0;
    for (; x + 8 <= width; x += 8)
        for (int k = 0; k < 8; ++k) {
            const double left = std::fabs((b[x + k] - mean_b) - gain * (a[x + k] - mean_a));
            most[k] = most[k] > left ? most[k] : left;
        }
    for (; x < width; ++x) most[0] = std::max(most[0], std::fabs((b[x] - mean_b) - gain * (a[x] - mean_a)));
    return *std::max_element(most, most + 8);
}

}  // namespace
