// Light, colour and specks of views, bit for bit as in NumPy. Specification: aqqua/plan/views.py (_look),
// aqqua/plan/colour.py, aqqua/plan/specks.py. Test: tests/plan/test_views_native.py.
#include <cmath>
#include <cstdint>

#include "philox.hpp"
#include "plan_lanes.hpp"

namespace {

constexpr double kLumaShare[3] = {0.299, 0.587, 0.114};  // ITU-R BT.601
constexpr uint32_t kBlocksPerView = 1 + kMostSpecks;     // one of the view, one of each speck

inline double footprint_sigma(double blur_px, double zoom) {
    const double shrink = least(zoom, 1), blur = blur_px / zoom;
    return std::sqrt(0.25 * (1 / (shrink * shrink) - 1) + blur * blur);
}

void set_zero(const PlanConfig &config, ColourLanes &out) {
    for (int c = 0; c < 3; ++c)
        for (int l = 0; l < kLanes; ++l)
            out.zero[c][l] = config.subtract_background ? out.background[c][l] : config.mean;
}

// Row c of the matrix of every lane, the identity where an image has no colour.
AQQUA_HOT void matrix_row(const ImageLanes &__restrict images, const DrawLanes &__restrict drawn, int c,
                          const PlanConfig &config, ColourLanes &__restrict out) {
    for (int k = 0; k < 3; ++k) {
        const double same = c == k ? 1 : 0, luma = kLumaShare[k], quarter = config.quarter_turn[3 * c + k];
        for (int l = 0; l < kLanes; ++l) {
            const bool lit = drawn.u[kLit][l] < config.photometric_odds;
            const bool grey = drawn.u[kGrey][l] < config.grey_odds;
            const double cos = lit ? drawn.hue_cos[l] : 1, sin = lit ? drawn.hue_sin[l] : 0;
            const double between_drawn = between(config.saturation, drawn.u[kSaturation][l]);
            const double jittered = lit ? between_drawn : 1, saturation = grey ? 0 : jittered;
            const double turned = (same + (cos - 1) * (same - luma)) + sin * quarter;
            const double mixed = turned + (1 - saturation) * (luma - turned);
            out.matrix[3 * c + k][l] = images.has_colour[l] ? mixed : same;
        }
    }
    const double *red = images.background[0], *green = images.background[1], *blue = images.background[2];
    for (int l = 0; l < kLanes; ++l)
        out.background[c][l] = out.matrix[3 * c][l] * red[l] + out.matrix[3 * c + 1][l] * green[l] +
                               out.matrix[3 * c + 2][l] * blue[l];
}

}  // namespace

void colour_as_it_is(const ImageLanes &images, const PlanConfig &config, ColourLanes &out) {
    for (int c = 0; c < 3; ++c)
        for (int l = 0; l < kLanes; ++l) {
            for (int k = 0; k < 3; ++k) out.matrix[3 * c + k][l] = c == k ? 1 : 0;
            out.background[c][l] = images.background[c][l];
        }
    set_zero(config, out);
}

void colour(const ImageLanes &images, const DrawLanes &drawn, const PlanConfig &config, ColourLanes &out) {
    for (int c = 0; c < 3; ++c) matrix_row(images, drawn, c, config, out);
    set_zero(config, out);
}

AQQUA_HOT void look(const ImageLanes &__restrict images, const DrawLanes &__restrict drawn,
                    const CutLanes &__restrict where, const ColourLanes &__restrict colour,
                    const ViewRole &role, const PlanConfig &config, LookLanes &__restrict out) {
    const double invert_odds = role.invert_odds, solarize_odds = role.solarize_odds;
    const double blur_odds = role.blur_odds;
    for (int l = 0; l < kLanes; ++l) {
        const bool lit = drawn.u[kLit][l] < config.photometric_odds;
        const double gain_drawn = between(config.gain, drawn.u[kGain][l]);
        const double offset_drawn = between(config.offset, drawn.u[kOffset][l]);
        const double blur_drawn = between(config.blur_sigma_px, drawn.u[kSigma][l]);
        const double gain = lit ? gain_drawn : 1, offset = lit ? offset_drawn : 0;
        const double sign = drawn.u[kInvert][l] < invert_odds ? -1.0 : 1.0;
        const double blur = drawn.u[kBlur][l] < blur_odds ? blur_drawn : 0;
        const double scale = sign * gain / config.std;
        for (int c = 0; c < 3; ++c) {
            const double background = colour.background[c][l];
            out.bias[c][l] =
                (background - colour.zero[c][l] + offset) / config.std - scale * background;
        }
        out.um_per_px[l] = images.um_per_px[l] / where.zoom[l];
        out.sigma[l] = footprint_sigma(blur, where.zoom[l]);
        out.scale[l] = scale;
        out.noise[l] = between(config.noise, drawn.u[kNoise][l]) / config.std;
    }
    for (int c = 0; c < 3; ++c)
        for (int l = 0; l < kLanes; ++l) {
            const double zero = colour.zero[c][l], fold = (1 - (zero + zero)) / config.std;
            out.fold[c][l] = drawn.u[kSolarize][l] < solarize_odds ? fold : kNoFold;
        }
}

void draw_specks(const ImageLanes &images, const CutLanes &where, int64_t view, const PlanConfig &config,
                 Lanes *out) {
    const double patch_px = config.patch_px;
    uint32_t word[4][kLanes];
    Lanes number;
    const uint32_t first = uint32_t(view) * kBlocksPerView, purpose = uint32_t(Purpose::kSpecks);
    draw_words(images, config.seed, purpose, first, 1, word);
    for (int l = 0; l < kLanes; ++l) {
        const int64_t drawn = 1 + int64_t(uniform_of(word[1][l]) * double(config.specks));
        number[l] = uniform_of(word[0][l]) < config.speck_odds ? double(drawn) : 0;
    }
    for (int64_t k = 0; k < config.specks; ++k) {
        draw_words(images, config.seed, purpose, first + 1 + uint32_t(k), 1, word);
        for (int l = 0; l < kLanes; ++l) {
            const double height = where.rows[l] * patch_px, width = where.columns[l] * patch_px;
            const double luma = images.background[0][l] * kLumaShare[0] +
                                images.background[1][l] * kLumaShare[1] +
                                images.background[2][l] * kLumaShare[2];
            const double end = luma > 0.5 ? 0 : 1;
            const double radius = least(height, width) * between(config.speck_radius, uniform_of(word[2][l]));
            const double level = luma + between(config.speck_depth, uniform_of(word[3][l])) * (end - luma);
            const bool there = double(k) < number[l];
            out[4 * k][l] = there ? uniform_of(word[0][l]) * width : 0;
            out[4 * k + 1][l] = there ? uniform_of(word[1][l]) * height : 0;
            out[4 * k + 2][l] = there ? radius : 0;
            out[4 * k + 3][l] = there ? level : 0;
        }
    }
}
