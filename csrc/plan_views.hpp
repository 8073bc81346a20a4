// What planning views is made of, free of Python: plan.cpp checks and fills it, plan_views.cpp runs it.
#pragma once

#include <cstdint>

constexpr int64_t kQuantiles = 4096;  // rows of a table of quantiles: aqqua.plan.cut.QUANTILES
constexpr int kMostSpecks = 8;        // of a view: aqqua.plan.view_config.MOST_SPECKS

// Of I images, one value each unless said otherwise. Letters and meanings: aqqua.store.read.Sizes.
struct PlanImages {
    int64_t count;
    const uint64_t *key;
    const int32_t *height, *width;
    const int8_t *channels, *bits;
    const float *um_per_px;
    const uint16_t *background;  // [I, 3]
    const int32_t *box;          // [I, 4] top, left, bottom, right
    const uint64_t *visit;       // below 2**32
};

struct PlanRange {
    double low, high;
};

// What the S views of an image may look like. Meanings: aqqua.plan.view_config.ViewConfig.
struct PlanConfig {
    uint64_t seed;
    double patch_px;
    int64_t views;               // S
    const double *area;          // [S, 2] low, high: share of the image's area
    const int32_t *tokens;       // [S, 2] floor and cap of the patches
    const double *invert_odds;   // [S]
    const double *solarize_odds; // [S]
    const double *blur_odds;     // [S]
    const double *directions;    // [Q, 2] (cos, sin)
    const double *aspect, *zoom; // [Q]
    const double *hue;           // [Q, 2] (cos, sin)
    const double *quarter_turn;  // [3, 3] aqqua.plan.colour.quarter_turn
    bool square;                 // every view is stretched to a square of its most patches
    bool rotate, flip, organism_aware, subtract_background;
    double max_magnify, max_reduce, photometric_odds, grey_odds, speck_odds, mean, std;
    PlanRange gain, offset, saturation, blur_sigma_px, noise, speck_radius, speck_depth;
    int64_t specks;  // K, most of a view
};

// Where the plan goes; letters as in aqqua.plan.views.Views.
struct PlannedViews {
    int32_t *grid;     // [I, S, 2]
    float *map;        // [I, S, 2, 3]
    float *um_per_px;  // [I, S]
    float *sigma, *scale, *noise;
    float *bias;    // [I, S, 3]
    float *speck;   // [I, S, K, 4]
    float *colour;  // [I, S, 3, 3]
    float *fold;    // [I, S, 3]
};

void plan_views(const PlanImages &images, const PlanConfig &config, const PlannedViews &out);
