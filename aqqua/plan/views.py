"""What every view of an image will be: where it is cut, how it is turned, lit, coloured and blurred.

Drawn from image sizes alone, before a pixel is read, for a whole window of images at once.
Native scale is kept: a view is a rotated rectangle of the image at its own resolution, its sides
whole patches. Only a view below the token floor is magnified (bounded), only one above the cap is
reduced, and µm/px is relabelled by the same factor. With geometry=square it is stretched as by DINOv2.

Source: area fractions, blur and photometric odds from DINOv2 (dinov2/data/augmentations.py);
native resolution after NaViT. Letters: I images, S views (crops) of one image, Q quantiles of a table.
`plan_views` is served by C++ (aqqua._core); `plan_views_reference` is its specification, bit for bit.
Tests: tests/plan/test_views.py, test_views_look.py, test_views_native.py, test_views_refusals.py,
test_views_square.py, test_whole.py. Timing: bench/data/plan.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt64

from aqqua import _core
from aqqua.plan.colour import colour_matrix, coloured, hues, quarter_turn
from aqqua.plan.cut import QUANTILES, affine, bounded_zoom, cut, directions, log_uniform, snap, stretched
from aqqua.plan.footprint import footprint_sigma
from aqqua.plan.philox import Purpose, between, require_seed, uniforms
from aqqua.plan.specks import draw_specks
from aqqua.plan.view_config import ViewConfig
from aqqua.store.sizes import Sizes

LARGEST_PATCH = 1024  # px
NO_FOLD = 1e30  # far above any value: nothing is folded
_DRAWS = 20  # 32-bit words per view
_UM_PER_PX = np.array([1e-30, 1e30], np.float32)  # beyond any instrument; relabelled, still a float32
# Fields of the config that C++ takes as they are.
_PASSED = {
    "rotate",
    "flip",
    "organism_aware",
    "max_magnify",
    "max_reduce",
    "gain",
    "offset",
    "saturation",
    "photometric_odds",
    "grey_odds",
    "blur_sigma_px",
    "noise",
    "specks",
    "speck_odds",
    "speck_radius",
    "speck_depth",
    "subtract_background",
    "mean",
    "std",
}


@dataclass(frozen=True)
class Views:
    """The views of I images, S each (global 1, global 2, locals), as a structure of arrays.

    Output pixel (row i, column j), counted from its corner at (j + ½, i + ½), shows the source
    point map · (x, y, 1), in source pixels (x to the right, y down, pixel centres at + ½). Its
    value is made in this order:

    1. v, the level in [0, 1] of each channel there: blurred, then bilinear; the image's background where the
       point lies outside.
    2. Specks, one after the other: v + a · (level - v) where the speck covers the share
       a = clamp(radius + ½ - distance from its centre to the pixel's, 0, 1) of the pixel; none of radius 0.
    3. colour · v, over channels. Keeps luma and greys (aqqua/plan/colour.py); the identity where an image
       is grey. A model of one channel gets luma and leaves it out.
    4. y = scale · v + bias.
    5. min(y, fold - y): solarized, where fold is below NO_FOLD. The value folds at level ½ as it is lit and
       coloured by then, which is DINOv2's order (jitter, blur, solarize, normalise).
    6. y + noise.

    A background pixel becomes 0 and the light's offset, or keeps its level less `mean`. Not as DINOv2:
    nothing is cut to [0, 1], contrast is about the background and not the mean grey, sampling is bilinear
    after a Gaussian and not bicubic.
    """

    grid_IS2: Int32[np.ndarray, "I S 2"]  # patch rows and columns
    map_IS23: Float32[np.ndarray, "I S 2 3"]
    um_per_px_IS: Float32[np.ndarray, "I S"]  # after the map; NaN unknown
    sigma_IS: Float32[
        np.ndarray, "I S"
    ]  # Gaussian prefilter, source px: blur and antialiasing in one; 0 none
    scale_IS: Float32[np.ndarray, "I S"]
    bias_ISC: Float32[np.ndarray, "I S 3"]
    noise_IS: Float32[np.ndarray, "I S"]  # σ, in normalised units
    speck_ISK4: Float32[np.ndarray, "I S K 4"]  # x, y, radius in output px; level in [0, 1]
    colour_IS33: Float32[np.ndarray, "I S 3 3"]  # out channel, in channel
    fold_ISC: Float32[np.ndarray, "I S 3"]  # in normalised units; NO_FOLD: none

    def patches_IS(self) -> Int32[np.ndarray, "I S"]:
        return self.grid_IS2[..., 0] * self.grid_IS2[..., 1]


def plan_views(
    sizes: Sizes, visits_I: UInt64[np.ndarray, " I"], seed: int, patch_px: int, config: ViewConfig
) -> Views:
    """The training views of images, from their sizes alone.

    Args:
        sizes: height, width, µm/px, background and organism box of each image.
        visits_I: which visit of each image this is (epoch and copy).
        seed: of the run.
        patch_px: side P of a patch in output pixels, 1 to 1024.

    Raises:
        ValueError: an array has another type or length, a side is 0, a µm/px is neither unknown (NaN) nor
            1e-30 to 1e30, bits are not 8 or 16, a visit is not below 2**32, the seed is not 64 bits, or
            patch_px is outside its range.
    """
    return Views(
        **_core.plan_views(
            key_I=np.ascontiguousarray(sizes.key),
            height_I=np.ascontiguousarray(sizes.height),
            width_I=np.ascontiguousarray(sizes.width),
            channels_I=np.ascontiguousarray(sizes.channels),
            bits_I=np.ascontiguousarray(sizes.bits),
            um_per_px_I=np.ascontiguousarray(sizes.um_per_px),
            background_I3=np.ascontiguousarray(sizes.background),
            box_I4=np.ascontiguousarray(sizes.box),
            visit_I=np.ascontiguousarray(visits_I),
            seed=seed,
            patch_px=patch_px,
            area_S2=config.area_S2(),
            tokens_S2=config.tokens_S2(),
            invert_odds_S=config.invert_odds_S(),
            solarize_odds_S=config.solarize_odds_S(),
            blur_odds_S=config.blur_odds_S(),
            directions_Q2=directions(),
            aspect_Q=log_uniform(*config.aspect),
            zoom_Q=log_uniform(*config.scale_jitter),
            hue_Q2=hues(*config.hue),
            quarter_turn_33=quarter_turn(),
            square=config.geometry == "square",
            **config.model_dump(include=_PASSED),
        )
    )


def plan_views_reference(
    sizes: Sizes, visits_I: UInt64[np.ndarray, " I"], seed: int, patch_px: int, config: ViewConfig
) -> Views:
    """The specification of `plan_views`, in NumPy."""
    _require_plannable("plan_views", sizes, visits_I, patch_px)
    require_seed("plan_views", seed)
    n_views = config.views
    u = uniforms(seed, sizes.key, visits_I, Purpose.VIEWS, _DRAWS * n_views)
    u_ISU = u.reshape(len(sizes.key), n_views, _DRAWS)
    where = cut(u_ISU, sizes, patch_px, config)
    look = _look(u_ISU, sizes, where.zoom_IS, config)
    specks = draw_specks(
        seed, sizes.key, visits_I, where.grid_IS2 * float(patch_px), _background(sizes), config
    )
    return Views(
        grid_IS2=where.grid_IS2,
        map_IS23=where.map_IS23.astype(np.float32),
        um_per_px_IS=(sizes.um_per_px[:, None].astype(np.float64) / where.zoom_IS).astype(np.float32),
        speck_ISK4=specks.astype(np.float32),
        **look,
    )


def _require_plannable(caller: str, sizes: Sizes, visits_I: np.ndarray, patch_px: int) -> None:
    """What csrc/plan.cpp asks of images and of patches, in the same words."""
    if not 1 <= patch_px <= LARGEST_PATCH:
        raise ValueError(
            f"{caller}: patch_px must be 1 to {LARGEST_PATCH}, got {patch_px}; set model.patch_px"
        )
    um, low, high = sizes.um_per_px, *_UM_PER_PX
    sized = (sizes.height >= 1) & (sizes.width >= 1)
    deep = np.isin(sizes.bits, (8, 16))
    scaled = np.isnan(um) | ((um >= low) & (um <= high))
    counted = visits_I < 1 << 32
    wrong = np.flatnonzero(~(sized & deep & scaled & counted))
    if not len(wrong):
        return
    i = int(wrong[0])
    rules = (
        (sized, "height and width", "at least 1 px", f"{sizes.height[i]} x {sizes.width[i]}", "leave it out"),
        (deep, "bits", "8 or 16", f"{sizes.bits[i]}", "ingest it again"),
        (scaled, "um_per_px", "1e-30 to 1e30, or NaN where unknown", f"{float(um[i])}", "ingest it again"),
        (counted, "visit", "below 2**32", f"{visits_I[i]}", "count visits from 0"),
    )
    what, limit, got, fix = next(rule[1:] for rule in rules if not rule[0][i])
    raise ValueError(f"{caller}: {what} of image {i} must be {limit}, got {got}; {fix}")


def _background(sizes: Sizes) -> np.ndarray:
    """Of each image and channel, [0, 1]."""
    return sizes.background / np.where(sizes.bits == 16, 65535.0, 255.0)[:, None]


def _look(u: np.ndarray, sizes: Sizes, zoom_IS: np.ndarray, config: ViewConfig) -> dict[str, np.ndarray]:
    """Photometric numbers of each view, folded into one matrix, scale, bias and fold per channel."""
    lit = u[..., 7] < config.photometric_odds
    gain = np.where(lit, between(config.gain, u[..., 8]), 1.0)
    offset = np.where(lit, between(config.offset, u[..., 9]), 0.0)
    sign = np.where(u[..., 10] < config.invert_odds_S(), -1.0, 1.0)
    blur = np.where(u[..., 11] < config.blur_odds_S(), between(config.blur_sigma_px, u[..., 12]), 0.0)
    colour = _colour(u, lit, sizes, config)
    background = coloured(colour, _background(sizes))
    zero = background if config.subtract_background else config.mean  # the level that becomes 0
    scale = sign * gain / config.std
    bias = (background - zero + offset[..., None]) / config.std - scale[..., None] * background
    fold = (1 - (zero + zero)) / config.std  # of the values of levels 0 and 1: what is at ½ stays
    solarized = (u[..., 17] < config.solarize_odds_S())[..., None]
    return {
        "sigma_IS": footprint_sigma(blur, zoom_IS).astype(np.float32),
        "scale_IS": scale.astype(np.float32),
        "bias_ISC": bias.astype(np.float32),
        "noise_IS": (between(config.noise, u[..., 13]) / config.std).astype(np.float32),
        "colour_IS33": colour.astype(np.float32),
        "fold_ISC": np.where(solarized, fold * np.ones(3), NO_FOLD).astype(np.float32),
    }


def _colour(u: np.ndarray, lit: np.ndarray, sizes: Sizes, config: ViewConfig) -> np.ndarray:
    """The colour matrix of each view; the identity where the image has no colour."""
    turn = hues(*config.hue)[(u[..., 14] * QUANTILES).astype(np.int64)]
    cos, sin = np.where(lit, turn[..., 0], 1.0), np.where(lit, turn[..., 1], 0.0)
    saturation = np.where(lit, between(config.saturation, u[..., 15]), 1.0)
    saturation = np.where(u[..., 16] < config.grey_odds, 0.0, saturation)
    has_colour = (sizes.channels == 3)[:, None, None, None]
    return np.where(has_colour, colour_matrix(cos, sin, saturation), np.eye(3))


def whole_views(sizes: Sizes, patch_px: int, max_tokens: int, min_tokens: int, config: ViewConfig) -> Views:
    """One undisturbed view of each whole image: for embedding and evaluation.

    The image is centred on a grid of whole patches, its margin filled with its background; the
    same floor, cap and relabelling of µm/px as in training. Where geometry is square the image is stretched
    to a square of max_tokens, as training stretched its crops.

    Raises:
        ValueError: a side is 0, a µm/px is neither unknown (NaN) nor 1e-30 to 1e30, bits are not 8 or 16, or
            patch_px is not 1 to 1024.
    """
    _require_plannable("whole_views", sizes, np.zeros(len(sizes), np.uint64), patch_px)
    sides = np.stack([sizes.height, sizes.width], axis=-1).astype(np.float64)[:, None, :]
    one = np.ones(sides.shape[:2])
    if config.geometry == "square":
        grid, zoom_IS2 = stretched(sides, np.array([max_tokens]), patch_px, config)
    else:
        grid, zoom_IS2 = _whole_native(sides, min_tokens, max_tokens, patch_px, config)
    zoom = np.sqrt(zoom_IS2[..., 0] * zoom_IS2[..., 1])
    background_IC = _background(sizes)
    level = 0.0 if config.subtract_background else background_IC[:, None, :] - config.mean
    scale = one / config.std
    count = len(sizes)
    return Views(
        grid_IS2=grid.astype(np.int32),
        map_IS23=affine(
            grid * patch_px, zoom_IS2, one, one * 0, one, sides[..., 1] / 2, sides[..., 0] / 2
        ).astype(np.float32),
        um_per_px_IS=(sizes.um_per_px[:, None] / zoom).astype(np.float32),
        sigma_IS=footprint_sigma(one * 0, zoom).astype(np.float32),
        scale_IS=scale.astype(np.float32),
        bias_ISC=(level / config.std - scale[..., None] * background_IC[:, None, :]).astype(np.float32),
        noise_IS=(one * 0).astype(np.float32),
        speck_ISK4=np.zeros((count, 1, 0, 4), np.float32),
        colour_IS33=np.broadcast_to(np.eye(3, dtype=np.float32), (count, 1, 3, 3)).copy(),
        fold_ISC=np.full((count, 1, 3), NO_FOLD, np.float32),
    )


def _whole_native(
    sides: np.ndarray, min_tokens: int, max_tokens: int, patch_px: int, config: ViewConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Grid and zoom of whole images whose shape is kept."""
    one = np.ones(sides.shape[:2])
    floor, cap = one * min_tokens, one * max_tokens
    zoom = bounded_zoom(one, sides, floor, cap, patch_px, config)
    # A quarter of a patch may fall off the rim: it is background.
    grid = snap(np.ceil(sides * zoom[..., None] / patch_px - 0.25), cap)
    # Where ceil passed the cap, the whole image still has to fit.
    zoom = np.minimum(zoom, ((grid + 0.5) * patch_px / sides).min(axis=-1))
    return grid, np.stack([zoom, zoom], axis=-1)
