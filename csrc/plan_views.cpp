// The views of images, from their sizes alone, bit for bit as in NumPy.
// Specification: aqqua/plan/views.py (plan_views_reference) and aqqua/plan/cut.py. Checks: plan.cpp. Light,
// colour and specks: plan_look.cpp.
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

#include "inline.hpp"
#include "philox.hpp"
#include "plan_lanes.hpp"

namespace {

constexpr float kIdentity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
constexpr uint32_t kBlocksPerView = 5;  // the specification draws 20 words per view
constexpr uint32_t kBlocksUsed = 4;     // of which 16 are enough where nothing is made grey or solarized

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
    lanes.any_colour = false;
    for (int l = 0; l < kLanes; ++l) {
        const int64_t i = std::min(first + l, images.count - 1);
        lanes.key[l] = images.key[i];
        lanes.visit[l] = images.visit[i];
        lanes.height[l] = images.height[i];
        lanes.width[l] = images.width[i];
        lanes.um_per_px[l] = images.um_per_px[i];
        lanes.top[l] = config.organism_aware ? images.box[4 * i] : 0;
        lanes.left[l] = config.organism_aware ? images.box[4 * i + 1] : 0;
        lanes.bottom[l] = config.organism_aware ? images.box[4 * i + 2] : lanes.height[l];
        lanes.right[l] = config.organism_aware ? images.box[4 * i + 3] : lanes.width[l];
        lanes.has_colour[l] = images.channels[i] == 3;
        lanes.any_colour |= lanes.has_colour[l];
        const double full = images.bits[i] == 16 ? 65535.0 : 255.0;
        for (int c = 0; c < 3; ++c) lanes.background[c][l] = images.background[3 * i + c] / full;
    }
}

// The draws of view `view` of each image.
void draw(const ImageLanes &images, const PlanConfig &config, int64_t view, uint32_t blocks, DrawLanes &out) {
    draw_words(images, config.seed, uint32_t(Purpose::kViews), uint32_t(view) * kBlocksPerView, blocks,
               out.word);
    for (uint32_t d = 0; d < 4 * blocks; ++d)
        for (int l = 0; l < kLanes; ++l) out.u[d][l] = uniform_of(out.word[d][l]);
}

// Quantile of a draw: its upper 12 bits.
void look_up(const PlanConfig &config, DrawLanes &lanes) {
    for (int l = 0; l < kLanes; ++l) {
        const double *direction = config.directions + 2 * (lanes.word[kDirection][l] >> 20);
        lanes.cos[l] = config.rotate ? direction[0] : 1;
        lanes.sin[l] = config.rotate ? direction[1] : 0;
        lanes.aspect[l] = config.aspect[lanes.word[kAspect][l] >> 20];
        lanes.zoom[l] = config.zoom[lanes.word[kZoom][l] >> 20];
        const double *hue = config.hue + 2 * (lanes.word[kHue][l] >> 20);
        lanes.hue_cos[l] = hue[0];
        lanes.hue_sin[l] = hue[1];
    }
}

struct Size {
    double rows, columns;  // height and width, in px or patches
};

// The image's own side ratio at an angle.
inline double chords(double height, double width, double cos, double sin) {
    const double tiny = 1e-9;
    const double chord_u = least(width / most(cos, tiny), height / most(sin, tiny));
    const double chord_v = least(width / most(sin, tiny), height / most(cos, tiny));
    return chord_u / chord_v;
}

inline Size sides_of(double area, double height, double width, double cos, double sin, double ratio) {
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

// Height and width of each rectangle, source px, into rows and columns.
template <bool kSquare>
AQQUA_INLINE void size_up(const ImageLanes &images, const DrawLanes &drawn, const ViewRole &role,
                          CutLanes &out) {
    for (int l = 0; l < kLanes; ++l) {
        const double height = images.height[l], width = images.width[l];
        const double cos = std::abs(drawn.cos[l]), sin = std::abs(drawn.sin[l]);
        const double area = between(role.area, drawn.u[kArea][l]) * height * width;
        const double ratio = kSquare ? drawn.aspect[l] : chords(height, width, cos, sin) * drawn.aspect[l];
        const Size sides = sides_of(area, height, width, cos, sin, ratio);
        out.rows[l] = sides.rows;
        out.columns[l] = sides.columns;
    }
}

// Where a view of so many patches lies, seen at a zoom `down` and `across` its own axes.
AQQUA_INLINE void place(const ImageLanes &images, const DrawLanes &drawn, double patch_px, double flip_odds,
                        int l, double down, double across, CutLanes &out) {
    const double cos = std::abs(drawn.cos[l]), sin = std::abs(drawn.sin[l]);
    const Size size_px{out.rows[l] * patch_px, out.columns[l] * patch_px};
    const Size extent{size_px.rows / down, size_px.columns / across};
    const double half_x = (extent.columns * cos + extent.rows * sin) / 2;
    const double half_y = (extent.columns * sin + extent.rows * cos) / 2;
    const double x = placed(drawn.u[kX][l], half_x, images.width[l], images.left[l], images.right[l]);
    const double y = placed(drawn.u[kY][l], half_y, images.height[l], images.top[l], images.bottom[l]);
    const double flip = drawn.u[kFlip][l] < flip_odds ? -1.0 : 1.0;
    const double xx = flip * (drawn.cos[l] / across), xy = -(drawn.sin[l] / down);
    const double yx = flip * (drawn.sin[l] / across), yy = drawn.cos[l] / down;
    const double mid_y = size_px.rows / 2, mid_x = size_px.columns / 2;
    out.map[0][l] = xx;
    out.map[1][l] = xy;
    out.map[2][l] = x - (xx * mid_x + xy * mid_y);
    out.map[3][l] = yx;
    out.map[4][l] = yy;
    out.map[5][l] = y - (yx * mid_x + yy * mid_y);
}

// One loop per step, because in one long loop each image's chain of divisions waits for itself.
AQQUA_HOT void cut_native(const ImageLanes &__restrict images, const DrawLanes &__restrict drawn,
                          const ViewRole &role, const PlanConfig &config, CutLanes &__restrict out) {
    const double patch_px = config.patch_px, flip_odds = config.flip ? 0.5 : 0;
    const double floor = role.floor, cap = role.cap;
    size_up<false>(images, drawn, role, out);
    for (int l = 0; l < kLanes; ++l)
        out.zoom[l] = bounded_zoom(drawn.zoom[l], {out.rows[l], out.columns[l]}, floor, cap, config);
    for (int l = 0; l < kLanes; ++l) {
        const Size patches{out.rows[l] * out.zoom[l] / patch_px, out.columns[l] * out.zoom[l] / patch_px};
        const Size grid = snapped(patches, cap);
        out.rows[l] = grid.rows;
        out.columns[l] = grid.columns;
    }
    for (int l = 0; l < kLanes; ++l)
        place(images, drawn, patch_px, flip_odds, l, out.zoom[l], out.zoom[l], out);
}

AQQUA_HOT void cut_square(const ImageLanes &__restrict images, const DrawLanes &__restrict drawn,
                          const ViewRole &role, const PlanConfig &config, CutLanes &__restrict out) {
    const double patch_px = config.patch_px, flip_odds = config.flip ? 0.5 : 0;
    const double square = role.square, square_px = square * patch_px;
    const double longest = square_px * config.max_reduce;
    Lanes down, across;
    size_up<true>(images, drawn, role, out);
    for (int l = 0; l < kLanes; ++l) {
        down[l] = square_px / least(most(out.rows[l], 1), longest);
        across[l] = square_px / least(most(out.columns[l], 1), longest);
        out.zoom[l] = std::sqrt(down[l] * across[l]);
        out.rows[l] = square;
        out.columns[l] = square;
    }
    for (int l = 0; l < kLanes; ++l) place(images, drawn, patch_px, flip_odds, l, down[l], across[l], out);
}

// What is written of a view of some images.
struct Written {
    const CutLanes &where;
    const ColourLanes &colour;
    const LookLanes &look;
    const Lanes *specks;  // [4 K]
    bool any_colour;
};

// View `view` of the images from `first` on, into the arrays.
void write(const Written &from, int lanes, int64_t first, int64_t view, const PlanConfig &config,
           const PlannedViews &out) {
    const int64_t specks = 4 * config.specks;
    for (int l = 0; l < lanes; ++l) {
        const int64_t at = (first + l) * config.views + view;
        out.grid[2 * at] = int32_t(from.where.rows[l]);
        out.grid[2 * at + 1] = int32_t(from.where.columns[l]);
        for (int k = 0; k < 6; ++k) out.map[6 * at + k] = float(from.where.map[k][l]);
        out.um_per_px[at] = float(from.look.um_per_px[l]);
        out.sigma[at] = float(from.look.sigma[l]);
        out.scale[at] = float(from.look.scale[l]);
        for (int c = 0; c < 3; ++c) out.bias[3 * at + c] = float(from.look.bias[c][l]);
        for (int c = 0; c < 3; ++c) out.fold[3 * at + c] = float(from.look.fold[c][l]);
        if (from.any_colour)
            for (int k = 0; k < 9; ++k) out.colour[9 * at + k] = float(from.colour.matrix[k][l]);
        else
            std::copy(kIdentity, kIdentity + 9, out.colour + 9 * at);
        for (int64_t k = 0; k < specks; ++k) out.speck[specks * at + k] = float(from.specks[k][l]);
        out.noise[at] = float(from.look.noise[l]);
    }
}

ViewRole role_of(const PlanConfig &config, int64_t view) {
    const double cap = double(config.tokens[2 * view + 1]);
    return {{config.area[2 * view], config.area[2 * view + 1]},
            double(config.tokens[2 * view]),
            cap,
            std::sqrt(cap),
            config.invert_odds[view],
            config.solarize_odds[view],
            config.blur_odds[view]};
}

bool any(const double *odds, int64_t count) {
    return std::any_of(odds, odds + count, [](double odd) { return odd > 0; });
}

}  // namespace

// Philox4x32-10 as in philox.hpp. The 32-bit words stand in lanes of 64 bits, as the products need them:
// AVX-512 runs this in less than half the time.
AQQUA_HOT void draw_words(const ImageLanes &__restrict images, uint64_t seed, uint32_t purpose,
                          uint32_t first_block, uint32_t blocks, uint32_t (*__restrict word)[kLanes]) {
    const uint64_t low = 0xFFFFFFFFu;
    for (uint32_t b = 0; b < blocks; ++b)
        for (int l = 0; l < kLanes; ++l) {
            uint64_t w0 = images.key[l] & low, w1 = images.key[l] >> 32, w2 = images.visit[l];
            uint64_t w3 = (purpose << 16) + first_block + b;
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
            word[4 * b][l] = w0;
            word[4 * b + 1][l] = w1;
            word[4 * b + 2][l] = w2;
            word[4 * b + 3][l] = w3;
        }
}

void plan_views(const PlanImages &images, const PlanConfig &config, const PlannedViews &out) {
    ImageLanes image_lanes;
    DrawLanes drawn;
    CutLanes where;
    ColourLanes tint;
    LookLanes appearance;
    Lanes specks[4 * kMostSpecks];
    const bool rare = config.grey_odds > 0 || any(config.solarize_odds, config.views);
    const uint32_t blocks = rare ? kBlocksPerView : kBlocksUsed;
    for (auto &lanes : drawn.u) std::fill(lanes, lanes + kLanes, 1.0);  // a draw not made: below no odds
    for (int64_t first = 0; first < images.count; first += kLanes) {
        load(images, config, first, image_lanes);
        colour_as_it_is(image_lanes, config, tint);
        const int lanes = int(std::min<int64_t>(kLanes, images.count - first));
        for (int64_t view = 0; view < config.views; ++view) {
            const ViewRole role = role_of(config, view);
            draw(image_lanes, config, view, blocks, drawn);
            look_up(config, drawn);
            (config.square ? cut_square : cut_native)(image_lanes, drawn, role, config, where);
            if (image_lanes.any_colour) colour(image_lanes, drawn, config, tint);
            look(image_lanes, drawn, where, tint, role, config, appearance);
            if (config.specks) draw_specks(image_lanes, where, view, config, specks);
            write({where, tint, appearance, specks, image_lanes.any_colour}, lanes, first, view, config, out);
        }
    }
}
