"""What every view of an image will be: where it is cut, how it is turned, lit and blurred.

Drawn from image sizes alone, before a pixel is read, for a whole window of images at once.
Native scale is kept: a view is a rotated rectangle of the image at its own resolution, its sides
whole patches. Only a view below the token floor is magnified (bounded), only one above the cap is
reduced, and µm/px is relabelled by the same factor.

Source: area fractions, blur and photometric odds from DINOv2 (dinov2/data/augmentations.py);
native resolution after NaViT. Letters: I images, S views (crops) of one image.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, Self

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua.plan.philox import Purpose, uniforms
from aqqua.store.read import Sizes

QUANTILES = 4096  # resolution of every non-uniform draw
_DRAWS = 20  # 32-bit words per view
Range = tuple[float, float]


class ViewConfig(BaseModel):
    """Crops and their look. Defaults are the recommended values for plankton."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    locals: int = Field(default=8, ge=0, le=16, description="local views per image; globals are always 2")
    global_area: Range = Field(default=(0.32, 1.0), description="share of the image's area; DINOv2")
    local_area: Range = Field(default=(0.05, 0.32), description="share of the image's area; DINOv2")
    aspect: Range = Field(default=(3 / 4, 4 / 3), description="side ratio, beside the image's own; DINOv2")
    rotate: bool = Field(default=True, description="any angle and flips: plankton has no up")
    scale_jitter: Range = Field(default=(0.8, 1.25), description="resampling factor, log-uniform")
    min_tokens: tuple[int, int] = Field(
        default=(16, 4), description="floor, patches per global and local view"
    )
    max_tokens: tuple[int, int] = Field(default=(256, 64), description="cap, patches; DINOv2: 256, 49")
    max_magnify: float = Field(default=2.0, ge=1, description="no view is magnified more to reach the floor")
    max_reduce: float = Field(
        default=8.0, ge=1, description="no view is reduced more to keep the cap: it is cut"
    )
    gain: Range = Field(default=(0.6, 1.4), description="contrast about the background; DINOv2 jitter 0.4")
    offset: Range = Field(default=(-0.1, 0.1), description="added grey, full scale = 1")
    photometric_odds: float = Field(default=0.8, ge=0, le=1, description="views with gain and offset; DINOv2")
    invert_odds: Range = Field(
        default=(0.0, 0.2), description="polarity flipped, global 1 and 2 (solarize's place)"
    )
    blur: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: global 1 always, 2 at 0.1; released weights: never and 0.9 (upstream RandomApply "
        "inverts its probability, dinov3 #286)",
    )
    blur_sigma_px: Range = Field(default=(0.1, 2.0), description="Gaussian σ in output px; DINOv2")
    local_blur_odds: float = Field(default=0.5, ge=0, le=1, description="DINOv2")
    noise: Range = Field(default=(0.0, 0.02), description="σ of additive noise, full scale = 1")
    hide_scale_odds: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="views whose µm/px is hidden from the model, so that it learns both",
    )
    subtract_background: bool = Field(
        default=True, description="0 is the image's own background: less instrument, padding for free"
    )
    mean: float = Field(default=0.5, description="grey taken as 0 when the background is kept")
    std: float = Field(default=0.25, gt=0, description="grey, full scale = 1, taken as 1")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in (
            "global_area",
            "local_area",
            "aspect",
            "scale_jitter",
            "gain",
            "offset",
            "blur_sigma_px",
            "noise",
        ):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be low, high with low <= high, got {low}, {high}; swap them")
        for name in ("global_area", "local_area", "aspect", "scale_jitter"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}; raise its low end")
        if any(f < 1 or f > c for f, c in zip(self.min_tokens, self.max_tokens, strict=True)):
            raise ValueError(
                f"min_tokens must be 1 to max_tokens, got {self.min_tokens} and {self.max_tokens}; lower the floor"
            )
        return self

    @property
    def views(self) -> int:
        """Views of one image: 2 global, then the local ones."""
        return 2 + self.locals


@dataclass(frozen=True)
class Views:
    """The views of I images, S each (global 1, global 2, locals), as a structure of arrays.

    Output pixel (row i, column j), counted from its corner at (j + ½, i + ½), shows the source
    point map · (x, y, 1), in source pixels (x to the right, y down, pixel centres at + ½). Its
    value is scale · v + bias + noise with v in [0, 1], the image's background where the point
    lies outside.
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

    def patches_IS(self) -> Int32[np.ndarray, "I S"]:
        return self.grid_IS2[..., 0] * self.grid_IS2[..., 1]


@cache
def directions() -> Float64[np.ndarray, "Q 2"]:
    """(cos, sin) of QUANTILES angles round the circle."""
    turns = [2 * math.pi * (i + 0.5) / QUANTILES for i in range(QUANTILES)]
    return np.array([(math.cos(t), math.sin(t)) for t in turns])


@cache
def log_uniform(low: float, high: float) -> Float64[np.ndarray, " Q"]:
    """QUANTILES quantiles of the log-uniform law on [low, high]."""
    ratio = math.log(high / low)
    return np.array([low * math.exp(ratio * (i + 0.5) / QUANTILES) for i in range(QUANTILES)])


def plan_views(
    sizes: Sizes, visits_I: UInt64[np.ndarray, " I"], seed: int, patch_px: int, config: ViewConfig
) -> Views:
    """The training views of images, from their sizes alone.

    Args:
        sizes: height, width, µm/px, background and organism box of each image.
        visits_I: which visit of each image this is (epoch and copy).
        seed: of the run.
        patch_px: side P of a patch in output pixels.
    """
    n_views = config.views
    u = uniforms(seed, sizes.key, visits_I, Purpose.VIEWS, _DRAWS * n_views)
    u_ISU = u.reshape(len(sizes.key), n_views, _DRAWS)
    is_local_S = np.arange(n_views) >= 2
    cut = _cut(u_ISU, sizes, is_local_S, patch_px, config)
    look = _look(u_ISU, sizes, cut.zoom_IS, config)
    return Views(
        grid_IS2=cut.grid_IS2,
        map_IS23=cut.map_IS23.astype(np.float32),
        um_per_px_IS=(sizes.um_per_px[:, None].astype(np.float64) / cut.zoom_IS).astype(np.float32),
        **look,
    )


@dataclass(frozen=True)
class _Cut:
    grid_IS2: np.ndarray
    map_IS23: np.ndarray
    zoom_IS: np.ndarray  # output px per source px


def _cut(u: np.ndarray, sizes: Sizes, is_local_S: np.ndarray, patch_px: int, config: ViewConfig) -> _Cut:
    """Rectangle of each view: area, shape, angle, zoom, place."""
    height, width = (s.astype(np.float64)[:, None] for s in (sizes.height, sizes.width))
    low, high = (np.where(is_local_S, config.local_area[i], config.global_area[i]) for i in (0, 1))
    area = (low + (high - low) * u[..., 0]) * height * width
    direction = (
        directions()[_index(u[..., 1])] if config.rotate else np.broadcast_to([1.0, 0.0], (*u.shape[:2], 2))
    )
    cos, sin = direction[..., 0], direction[..., 1]
    flip = np.where((u[..., 2] < 0.5) & config.rotate, -1.0, 1.0)
    long_IS2 = _sides(
        area, height, width, np.abs(cos), np.abs(sin), log_uniform(*config.aspect)[_index(u[..., 3])]
    )
    zoom = log_uniform(*config.scale_jitter)[_index(u[..., 4])]
    floor, cap = (
        np.where(is_local_S, bound[1], bound[0]).astype(np.float64)
        for bound in (config.min_tokens, config.max_tokens)
    )
    zoom = _bounded_zoom(zoom, long_IS2, floor, cap, patch_px, config)
    grid = _snap(long_IS2 * zoom[..., None] / patch_px, cap)
    extent = grid * patch_px / zoom[..., None]  # along the view's own axes, source px
    half_x = (extent[..., 1] * np.abs(cos) + extent[..., 0] * np.abs(sin)) / 2
    half_y = (extent[..., 1] * np.abs(sin) + extent[..., 0] * np.abs(cos)) / 2
    centre_x = _place(u[..., 5], half_x, width, sizes.box[:, 1:2], sizes.box[:, 3:4])
    centre_y = _place(u[..., 6], half_y, height, sizes.box[:, 0:1], sizes.box[:, 2:3])
    return _Cut(
        grid.astype(np.int32), affine(grid * patch_px, zoom, cos, sin, flip, centre_x, centre_y), zoom
    )


def _index(u: np.ndarray) -> np.ndarray:
    return (u * QUANTILES).astype(np.int64)


def _sides(
    area: np.ndarray,
    height: np.ndarray,
    width: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    aspect: np.ndarray,
) -> np.ndarray:
    """Height and width of the rectangle, source px: the shape follows the image's chords at this angle."""
    tiny = 1e-9
    chord_u = np.minimum(width / np.maximum(cos, tiny), height / np.maximum(sin, tiny))
    chord_v = np.minimum(width / np.maximum(sin, tiny), height / np.maximum(cos, tiny))
    ratio = chord_u / chord_v * aspect
    side_u = np.minimum(np.sqrt(area * ratio), width * cos + height * sin)
    side_v = np.minimum(np.sqrt(area / ratio), width * sin + height * cos)
    return np.stack([side_v, side_u], axis=-1)


def _bounded_zoom(
    zoom: np.ndarray, sides: np.ndarray, floor: np.ndarray, cap: np.ndarray, patch_px: int, config: ViewConfig
) -> np.ndarray:
    """Zoom that brings the token count between floor and cap, itself bounded on both sides."""
    tokens = sides[..., 0] * sides[..., 1] * zoom * zoom / (patch_px * patch_px)
    wanted_up = np.minimum(zoom * np.sqrt(floor / tokens), np.maximum(zoom, config.max_magnify))
    wanted_down = np.maximum(zoom * np.sqrt(cap / tokens), np.minimum(zoom, 1 / config.max_reduce))
    return np.where(tokens < floor, wanted_up, np.where(tokens > cap, wanted_down, zoom))


def _snap(patches: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """Whole patches per side, at least one, their product at most the cap."""
    rows, columns = np.maximum(np.rint(patches[..., 0]), 1), np.maximum(np.rint(patches[..., 1]), 1)
    # Where rounding passed the cap, the longer side gives way.
    rows_first = rows >= columns
    columns = np.where(
        rows_first, np.minimum(columns, cap), np.minimum(columns, np.floor(cap / np.minimum(rows, cap)))
    )
    rows = np.where(rows_first, np.minimum(rows, np.floor(cap / columns)), np.minimum(rows, cap))
    return np.stack([rows, columns], axis=-1)


def _place(
    u: np.ndarray, half: np.ndarray, side: np.ndarray, box_low: np.ndarray, box_high: np.ndarray
) -> np.ndarray:
    """Centre along one axis: inside the image where the view fits, over the organism where it can."""
    low, high = np.minimum(half, side / 2), np.maximum(side - half, side / 2)
    start = np.clip(box_low.astype(np.float64), low, high)
    end = np.clip(box_high.astype(np.float64), low, high)
    return start + u * (end - start)


def affine(
    size_px: np.ndarray,
    zoom: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    flip: np.ndarray,
    centre_x: np.ndarray,
    centre_y: np.ndarray,
) -> Float64[np.ndarray, "I S 2 3"]:
    """The map from output pixels to source pixels of views centred at (centre_x, centre_y)."""
    xx, xy = flip * cos / zoom, -sin / zoom
    yx, yy = flip * sin / zoom, cos / zoom
    mid_y, mid_x = size_px[..., 0] / 2, size_px[..., 1] / 2
    shift_x = centre_x - (xx * mid_x + xy * mid_y)
    shift_y = centre_y - (yx * mid_x + yy * mid_y)
    return np.stack([np.stack([xx, xy, shift_x], -1), np.stack([yx, yy, shift_y], -1)], -2)


def _look(u: np.ndarray, sizes: Sizes, zoom_IS: np.ndarray, config: ViewConfig) -> dict[str, np.ndarray]:
    """Photometric numbers of each view, folded into one scale and bias per channel."""
    lit = u[..., 7] < config.photometric_odds
    gain = np.where(lit, _between(config.gain, u[..., 8]), 1.0)
    offset = np.where(lit, _between(config.offset, u[..., 9]), 0.0)
    invert_odds = np.concatenate([config.invert_odds, np.zeros(config.locals)])
    sign = np.where(u[..., 10] < invert_odds, -1.0, 1.0)
    first, second = (1.0, 0.1) if config.blur == "paper" else (0.0, 0.9)
    blur_odds = np.concatenate([[first, second], np.full(config.locals, config.local_blur_odds)])
    blur = np.where(u[..., 11] < blur_odds, _between(config.blur_sigma_px, u[..., 12]), 0.0)
    background_IC = sizes.background / np.where(sizes.bits == 16, 65535.0, 255.0)[:, None]
    scale = sign * gain / config.std
    level = 0.0 if config.subtract_background else background_IC[:, None, :] - config.mean
    bias = (level + offset[..., None]) / config.std - scale[..., None] * background_IC[:, None, :]
    return {
        "sigma_IS": footprint_sigma(blur, zoom_IS).astype(np.float32),
        "scale_IS": scale.astype(np.float32),
        "bias_ISC": bias.astype(np.float32),
        "noise_IS": (_between(config.noise, u[..., 13]) / config.std).astype(np.float32),
    }


def _between(bounds: Range, draw: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def footprint_sigma(blur_px: np.ndarray, zoom: np.ndarray) -> np.ndarray:
    """σ in source px of one Gaussian that blurs by `blur_px` output px and band-limits a reduction.

    A pixel seen at zoom z < 1 covers 1/z source pixels; ½·√(1/z² − 1) is the Gaussian that turns a
    footprint of one pixel into that one.
    """
    shrink = np.minimum(zoom, 1.0)
    return np.sqrt(0.25 * (1 / (shrink * shrink) - 1) + (blur_px / zoom) * (blur_px / zoom))


def whole_views(sizes: Sizes, patch_px: int, max_tokens: int, min_tokens: int, config: ViewConfig) -> Views:
    """One undisturbed view of each whole image: for embedding and evaluation.

    The image is centred on a grid of whole patches, its margin filled with its background; the
    same floor, cap and relabelling of µm/px as in training.
    """
    sides = np.stack([sizes.height, sizes.width], axis=-1).astype(np.float64)[:, None, :]
    one = np.ones(sides.shape[:2])
    floor, cap = one * min_tokens, one * max_tokens
    zoom = _bounded_zoom(one, sides, floor, cap, patch_px, config)
    exact = sides * zoom[..., None] / patch_px
    grid = np.ceil(exact - 0.25)  # a quarter of a patch may fall off the rim: it is background
    grid = _snap(grid, cap)
    # Where ceil passed the cap, the whole image still has to fit.
    zoom = np.minimum(zoom, ((grid + 0.5) * patch_px / sides).min(axis=-1))
    background_IC = sizes.background / np.where(sizes.bits == 16, 65535.0, 255.0)[:, None]
    level = 0.0 if config.subtract_background else background_IC[:, None, :] - config.mean
    scale = one / config.std
    return Views(
        grid_IS2=grid.astype(np.int32),
        map_IS23=affine(
            grid * patch_px, zoom, one, one * 0, one, sides[..., 1] / 2, sides[..., 0] / 2
        ).astype(np.float32),
        um_per_px_IS=(sizes.um_per_px[:, None] / zoom).astype(np.float32),
        sigma_IS=footprint_sigma(one * 0, zoom).astype(np.float32),
        scale_IS=scale.astype(np.float32),
        bias_ISC=(level / config.std - scale[..., None] * background_IC[:, None, :]).astype(np.float32),
        noise_IS=(one * 0).astype(np.float32),
    )
