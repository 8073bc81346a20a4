// What a CPU render is made of, free of Python: render.cpp checks and fills it, render_views.cpp runs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "render_loops.hpp"

struct RenderImage {
    const unsigned char *pixels;  // rows from the top, channels interleaved, any alignment
    int64_t height, width;        // at least 1
    int channels;                 // 1 or 3
    bool wide;                    // 16 bit
    float background[3];          // in [0, 1]; [0] is luma where the model has one channel
};

struct RenderView {
    int64_t image;
    int64_t grid_rows, grid_columns;  // patches, at least 1
    const float *map;                 // [2, 3] output px -> source px
    double sigma;                     // source px
    float scale, noise, bias[3];      // bias[0] is luma where the model has one channel
    uint64_t key;
    const float *speck;   // [specks, 4] x, y, radius in output px; level in [0, 1]
    int64_t specks;
    const float *colour;  // [3, 3]; null: the identity, or a model of one channel
    bool folds;           // else `fold` is not read
    float fold[3];        // fold[0] is luma where the model has one channel
    int64_t first_row;                // of its patch rows in `out`
};

struct RenderJob {
    const Loops *loops;  // that serve
    int64_t patch_px;
    int channels;  // of the model, 1 or 3
    std::vector<RenderImage> images;
    std::vector<RenderView> views;
    int64_t rows;   // patch rows of all views
    void *out;      // [rows, patch_px * patch_px * channels]
    bool bfloat16;  // what `out` holds; float32 otherwise
};

// How many source pixels the Gaussian of a view reaches to each side; 0 where it is not blurred.
int64_t blur_reach(double sigma);

// Renders all views with at most `threads` threads; the result does not depend on their number.
void render_views(const RenderJob &job, int threads);
