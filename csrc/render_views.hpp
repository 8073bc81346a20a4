// What a CPU render is made of, free of Python: render.cpp checks and fills it, render_views.cpp runs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

constexpr float kLuma[3] = {0.299f, 0.587f, 0.114f};  // ITU-R BT.601

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
    float *out;  // its patch rows
};

struct RenderJob {
    int64_t patch_px;
    int channels;  // of the model, 1 or 3
    std::vector<RenderImage> images;
    std::vector<RenderView> views;
};

// How many source pixels the Gaussian of a view reaches to each side; 0 where it is not blurred.
int64_t blur_reach(double sigma);

// Renders all views with at most `threads` threads; the result does not depend on their number.
void render_views(const RenderJob &job, int threads);
