// What the loops of planning views share: images side by side in lanes, and what a view of each becomes.
// plan_views.cpp says how they go through; plan_look.cpp makes light, colour and specks.
#pragma once

#include <cstdint>

#include "inline.hpp"
#include "plan_views.hpp"

constexpr int kLanes = 32;  // images; all their lanes stay in the first-level cache
constexpr int kDraws = 20;  // words of a view: five blocks of four
constexpr double kNoFold = 1e30;  // aqqua.plan.views.NO_FOLD

using Lanes = double[kLanes];

// What the draws of a view decide, in the order of the specification; the last two are free.
enum Draw {
    kArea, kDirection, kFlip, kAspect, kZoom, kX, kY,
    kLit, kGain, kOffset, kInvert, kBlur, kSigma, kNoise,
    kHue, kSaturation, kGrey, kSolarize
};

struct ImageLanes {
    uint64_t key[kLanes], visit[kLanes];
    Lanes height, width, um_per_px, top, left, bottom, right;
    Lanes background[3];
    bool has_colour[kLanes], any_colour;
};

struct DrawLanes {
    uint32_t word[kDraws][kLanes];
    Lanes u[kDraws], cos, sin, aspect, zoom, hue_cos, hue_sin;
};

struct CutLanes {
    Lanes rows, columns, zoom, map[6];
};

// A view's colour matrix, and by it the image's own background and the level that becomes 0.
struct ColourLanes {
    Lanes matrix[9], background[3], zero[3];
};

struct LookLanes {
    Lanes um_per_px, sigma, scale, bias[3], noise, fold[3];
};

// One view of an image: its row of the config.
struct ViewRole {
    PlanRange area;
    double floor, cap, square, invert_odds, solarize_odds, blur_odds;
};

AQQUA_INLINE double least(double a, double b) { return a < b ? a : b; }
AQQUA_INLINE double most(double a, double b) { return a > b ? a : b; }
AQQUA_INLINE double bounded(double value, double low, double high) { return least(most(value, low), high); }
AQQUA_INLINE double between(PlanRange range, double u) {
    return range.low + (range.high - range.low) * u;
}
AQQUA_INLINE double uniform_of(uint32_t word) { return int32_t(word >> 8) * 0x1p-24; }

// Blocks of four words of a purpose for each image: block `first_block` on, word by word.
void draw_words(const ImageLanes &images, uint64_t seed, uint32_t purpose, uint32_t first_block,
                uint32_t blocks, uint32_t (*word)[kLanes]);

// The colour of images as it is: the identity.
void colour_as_it_is(const ImageLanes &images, const PlanConfig &config, ColourLanes &out);

// The colour of a view of images of which some have one.
void colour(const ImageLanes &images, const DrawLanes &drawn, const PlanConfig &config, ColourLanes &out);

void look(const ImageLanes &images, const DrawLanes &drawn, const CutLanes &where, const ColourLanes &colour,
          const ViewRole &role, const PlanConfig &config, LookLanes &out);

// Specks of view `view` of each image: (x, y, radius, level) in the rows 4k to 4k + 3 of `out`.
void draw_specks(const ImageLanes &images, const CutLanes &where, int64_t view, const PlanConfig &config,
                 Lanes *out);
