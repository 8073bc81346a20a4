// The views of images, from their sizes alone, bit for bit as in NumPy.
// Specification: aqqua/plan/views.py (plan_views_reference) and aqqua/plan/cut.py. Checks: plan.cpp.
// Test: tests/plan/test_views_native.py. Timing: bench/data/plan.py.
//
// kLanes images go side by side, one view of each at a time. Every step is a plain loop over the lanes
// that the compiler turns into vector instructions; the scalar functions it calls repeat the
// specification's operations on doubles in their order. Results are bounded by what plan.cpp lets in: no
// NaN and no infinity arises, so min and max need not care about them.
#include "plan_views.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "philox.hpp"

// Hot loops are compiled for several machines and chosen at start. -ffp-contract=off: all give the same bits.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#if defined(__clang__) || __GNUC__ < 12
#define AQQUA_HOT __attribute__((target_clones("avx2", "default")))
#else
#define AQQUA_HOT __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#endif
#endif
#endif
#ifndef AQQUA_HOT
#define AQQUA_HOT
#endif

namespace {

constexpr int kLanes = 32;  // images; all their lanes stay in the first-level cache
constexpr uint32_t kBlocksPerView = 5;  // the specification draws 20 words per view,
constexpr uint32_t kBlocksUsed = 4;     // of which the first 14 are used
constexpr int kDraws = 14;

using Lanes = double[kLanes];

// What the draws of a view decide, in the order of the specification.
enum Draw {
    kArea, kDirection, kFlip, kAspect, kZoom, kX, kY,
    kLit, kGain, kOffset, kInvert, kBlur, kSigma, kNoise
};

struct ImageLanes {
    uint64_t key[kLanes], visit[kLanes];
    Lanes height, width, um_per_px, top, left, bottom, right;
    Lanes background[3], level[3];  // the image's own, and what it becomes
};

struct DrawLanes {
    uint32_t word[4 * kBlocksUsed][kLanes];
    Lanes u[kDraws], cos, sin, aspect, zoom;
};

struct CutLanes {
    Lanes rows, columns, zoom, map[6];
};

struct LookLanes {
    Lanes um_per_px, sigma, scale, bias[3], noise;
};

// One view of an image: its row of the config.
struct ViewRole {
    PlanRange area;
    double floor, cap, invert_odds, blur_odds;
};

inline double least(double a, double b) { return a < b ? a : b; }
inline double most(double a, double b) { return a > b ? a : b; }
inline double bounded(double value, double low, double high) { return least(most(value, low), high); }
inline double between(PlanRange range, double u) { return range.low + (range.high - range.low) * u; }

// To the nearest whole number, ties to even, of a value from 0 on; rint has no SSE2 instruction.
inline double rounded(double value) {
    const double shift = 0x1p52;
    const double whole = (value + shift) - shift;
    return value < shift ? whole : value;
}

inline double floored(double value) {
    const double whole = rounded(value);
    return whole > value ? whole - 1 : whole;
}

// Images from `first` on; lanes beyond the last image repeat it.
void load(const PlanImages &images, const PlanConfig &config, int64_t first, ImageLanes &lanes) {
    for (int l = 0; l < kLanes; ++l) {
        const int64_t i = std::min(first + l, images.count - 1);
        lanes.key[l] = images.key[i];
        lanes.visit[l] = images.visit[i];
        lanes.height[l] = images.height[i];
        lanes.width[l] = images.width[i];
        lanes.um_per_px[l] = images.um_per_px[i];
        lanes.top[l] = images.box[4 * i];
        lanes.left[l] = images.box[4 * i + 1];
        lanes.bottom[l] = images.box[4 * i + 2];
        lanes.right[l] = images.box[4 * i + 3];
        const double full = images.bits[i] == 16 ? 65535.0 : 255.0;
        for (int c = 0; c < 3; ++c) {
            const double background = images.background[3 * i + c] / full;
            lanes.background[c][l] = background;
            lanes.level[c][l] = config.subtract_background ? 0 : background - config.mean;
        }
    }
}

// Philox4x32-10 as in philox.hpp. The 32-bit words stand in lanes of 64 bits, as the products need them:
// AVX-512 runs this in less than half the time.
AQQUA_HOT void draw(const ImageLanes &__restrict images, uint64_t seed, uint32_t first_block,
                    DrawLanes &__restrict out) {
    const uint64_t low = 0xFFFFFFFFu;
    for (uint32_t b = 0; b < kBlocksUsed; ++b)
        for (int l = 0; l < kLanes; ++l) {
            uint64_t w0 = images.key[l] & low, w1 = images.key[l] >> 32, w2 = images.visit[l];
            uint64_t w3 = (uint32_t(Purpose::kViews) << 16) + first_block + b;
            uint32_t key_low = uint32_t(seed), key_high = uint32_t(seed >> 32);
            for (int round = 0; round < 10; ++round) {
                const uint64_t even = 0xD2511F53u * w0, odd = 0xCD9E8D57u * w2;
                w0 = (odd >> 32) ^ w1 ^ key_low;
                w1 = odd & low;
                w2 = (even >> 32) ^ w3 ^ key_high;
                w3 = even & low;
                key_low += 0x9E3779B9u;
                key_high += 0xBB67AE85u;
            }
            out.word[4 * b][l] = w0;
            out.word[4 * b + 1][l] = w1;
            out.word[4 * b + 2][l] = w2;
            out.word[4 * b + 3][l] = w3;
        }
    for (int d = 0; d < kDraws; ++d)
        for (int l = 0; l < kLanes; ++l) out.u[d][l] = int32_t(out.word[d][l] >> 8) * 0x1p-24;
}

// Quantile of a draw: its upper 12 bits.
void look_up(const PlanConfig &config, DrawLanes &lanes) {
    for (int l = 0; l < kLanes; ++l) {
        const double *direction = config.directions + 2 * (lanes.word[kDirection][l] >> 20);
        lanes.cos[l] = config.rotate ? direction[0] : 1;
        lanes.sin[l] = config.rotate ? direction[1] : 0;
        lanes.aspect[l] = config.aspect[lanes.word[kAspect][l] >> 20];
        lanes.zoom[l] = config.zoom[lanes.word[kZoom][l] >> 20];
    }
}

struct Size {
    double rows, columns;  // height and width, in px or patches
};

inline Size sides_of(double area, double height, double width, double cos, double sin, double aspect) {
    const double tiny = 1e-9;
    const double chord_u = least(width / most(cos, tiny), height / most(sin, tiny));
    const double chord_v = least(width / most(sin, tiny), height / most(cos, tiny));
    const double ratio = chord_u / chord_v * aspect;
    const double side_u = least(std::sqrt(area * ratio), width * cos + height * sin);
    const double side_v = least(std::sqrt(area / ratio), width * sin + height * cos);
    return {side_v, side_u};
}

inline double bounded_zoom(double zoom, Size sides, double floor, double cap, const PlanConfig &config) {
    const double tokens = sides.rows * sides.columns * zoom * zoom / (config.patch_px * config.patch_px);
    const double wanted = zoom * std::sqrt((tokens < floor ? floor : cap) / tokens);
    const double up = least(wanted, most(zoom, config.max_magnify));
    const double down = most(wanted, least(zoom, 1 / config.max_reduce));
    return tokens < floor ? up : (tokens > cap ? down : zoom);
}

inline Size snapped(Size patches, double cap) {
    const double shrink = std::sqrt(most(patches.rows * patches.columns / cap, 1));
    const double rows = most(rounded(patches.rows / shrink), 1);
    const double columns = most(rounded(patches.columns / shrink), 1);
    // Where rounding passed the cap, the longer side gives way.
    const bool tall = rows >= columns;
    const double shorter = least(tall ? columns : rows, cap);
    const double longer = least(tall ? rows : columns, floored(cap / shorter));
    return tall ? Size{longer, shorter} : Size{shorter, longer};
}

inline double placed(double u, double half, double side, double box_low, double box_high) {
    const double low = least(half, side / 2), high = most(side - half, side / 2);
    const double start = bounded(box_low, low, high), end = bounded(box_high, low, high);
    return start + u * (end - start);
}

// One loop per step, because in one long loop each image's chain of divisions waits for itself.
AQQUA_HOT void cut(const ImageLanes &__restrict images, const DrawLanes &__restrict drawn,
                   const ViewRole role, const PlanConfig &config, CutLanes &__restrict out) {
    const double patch_px = config.patch_px, flip_odds = config.rotate ? 0.5 : 0;
    for (int l = 0; l < kLanes; ++l) {
        const double height = images.height[l], width = images.width[l];
        const double area = between(role.area, drawn.u[kArea][l]) * height * width;
        const Size sides = sides_of(area, height, width, std::abs(drawn.cos[l]), std::abs(drawn.sin[l]),
                                    drawn.aspect[l]);
        out.rows[l] = sides.rows;
        out.columns[l] = sides.columns;
    }
    for (int l = 0; l < kLanes; ++l)
        out.zoom[l] =
            bounded_zoom(drawn.zoom[l], {out.rows[l], out.columns[l]}, role.floor, role.cap, config);
    for (int l = 0; l < kLanes; ++l) {
        const Size patches{out.rows[l] * out.zoom[l] / patch_px, out.columns[l] * out.zoom[l] / patch_px};
        const Size grid = snapped(patches, role.cap);
        out.rows[l] = grid.rows;
        out.columns[l] = grid.columns;
    }
    for (int l = 0; l < kLanes; ++l) {
        const double zoom = out.zoom[l], across = std::abs(drawn.cos[l]), down = std::abs(drawn.sin[l]);
        const Size size_px{out.rows[l] * patch_px, out.columns[l] * patch_px};
        const Size extent{size_px.rows / zoom, size_px.columns / zoom};
        const double half_x = (extent.columns * across + extent.rows * down) / 2;
        const double half_y = (extent.columns * down + extent.rows * across) / 2;
        const double x = placed(drawn.u[kX][l], half_x, images.width[l], images.left[l], images.right[l]);
        const double y = placed(drawn.u[kY][l], half_y, images.height[l], images.top[l], images.bottom[l]);
        const double flip = drawn.u[kFlip][l] < flip_odds ? -1.0 : 1.0;
        const double cos_step = drawn.cos[l] / zoom, sin_step = drawn.sin[l] / zoom;
        const double xx = flip * cos_step, xy = -sin_step, yx = flip * sin_step, yy = cos_step;
        const double mid_y = size_px.rows / 2, mid_x = size_px.columns / 2;
        out.map[0][l] = xx;
        out.map[1][l] = xy;
        out.map[2][l] = x - (xx * mid_x + xy * mid_y);
        out.map[3][l] = yx;
        out.map[4][l] = yy;
        out.map[5][l] = y - (yx * mid_x + yy * mid_y);
    }
}

inline double footprint_sigma(double blur_px, double zoom) {
    const double shrink = least(zoom, 1), blur = blur_px / zoom;
    return std::sqrt(0.25 * (1 / (shrink * shrink) - 1) + blur * blur);
}

AQQUA_HOT void look(const ImageLanes &__restrict images, const DrawLanes &__restrict drawn,
                    const CutLanes &__restrict where, const ViewRole role, const PlanConfig &config,
                    LookLanes &__restrict out) {
    for (int l = 0; l < kLanes; ++l) {
        const bool lit = drawn.u[kLit][l] < config.photometric_odds;
        const double gain_drawn = between(config.gain, drawn.u[kGain][l]);
        const double offset_drawn = between(config.offset, drawn.u[kOffset][l]);
        const double blur_drawn = between(config.blur_sigma_px, drawn.u[kSigma][l]);
        const double gain = lit ? gain_drawn : 1, offset = lit ? offset_drawn : 0;
        const double sign = drawn.u[kInvert][l] < role.invert_odds ? -1.0 : 1.0;
        const double blur = drawn.u[kBlur][l] < role.blur_odds ? blur_drawn : 0;
        const double scale = sign * gain / config.std;
        for (int c = 0; c < 3; ++c)
            out.bias[c][l] =
                (images.level[c][l] + offset) / config.std - scale * images.background[c][l];
        out.um_per_px[l] = images.um_per_px[l] / where.zoom[l];
        out.sigma[l] = footprint_sigma(blur, where.zoom[l]);
        out.scale[l] = scale;
        out.noise[l] = between(config.noise, drawn.u[kNoise][l]) / config.std;
    }
}

// View `view` of the images from `first` on, into the arrays.
void write(const CutLanes &where, const LookLanes &look, int lanes, int64_t first, int64_t view,
           int64_t views, const PlannedViews &out) {
    for (int l = 0; l < lanes; ++l) {
        const int64_t at = (first + l) * views + view;
        out.grid[2 * at] = int32_t(where.rows[l]);
        out.grid[2 * at + 1] = int32_t(where.columns[l]);
        for (int k = 0; k < 6; ++k) out.map[6 * at + k] = float(where.map[k][l]);
        out.um_per_px[at] = float(look.um_per_px[l]);
        out.sigma[at] = float(look.sigma[l]);
        out.scale[at] = float(look.scale[l]);
        for (int c = 0; c < 3; ++c) out.bias[3 * at + c] = float(look.bias[c][l]);
        out.noise[at] = float(look.noise[l]);
    }
}

ViewRole role_of(const PlanConfig &config, int64_t view) {
    return {{config.area[2 * view], config.area[2 * view + 1]},
            double(config.tokens[2 * view]),
            double(config.tokens[2 * view + 1]),
            config.invert_odds[view],
            config.blur_odds[view]};
}

}  // namespace

void plan_views(const PlanImages &images, const PlanConfig &config, const PlannedViews &out) {
    ImageLanes image_lanes;
    DrawLanes drawn;
    CutLanes where;
    LookLanes appearance;
    for (int64_t first = 0; first < images.count; first += kLanes) {
        load(images, config, first, image_lanes);
        const int lanes = int(std::min<int64_t>(kLanes, images.count - first));
        for (int64_t view = 0; view < config.views; ++view) {
            const ViewRole role = role_of(config, view);
            draw(image_lanes, config.seed, uint32_t(view) * kBlocksPerView, drawn);
            look_up(config, drawn);
            cut(image_lanes, drawn, role, config, where);
            look(image_lanes, drawn, where, role, config, appearance);
            write(where, appearance, lanes, first, view, config.views, out);
        }
    }
}
