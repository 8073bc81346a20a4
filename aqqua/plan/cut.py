"""Where a view is cut from its image: area, shape, angle, zoom and place, as one affine map.

Letters: I images, S views (crops) of one image. Test: tests/plan/test_views.py.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64

from aqqua.plan.view_config import ViewConfig
from aqqua.store.sizes import Sizes

QUANTILES = 4096  # resolution of every non-uniform draw


@dataclass(frozen=True)
class Cut:
    grid_IS2: np.ndarray
    map_IS23: np.ndarray
    zoom_IS: np.ndarray  # output px per source px; of a stretched view the geometric mean of both axes


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


def cut(u: np.ndarray, sizes: Sizes, patch_px: int, config: ViewConfig) -> Cut:
    """Rectangle of each view: area, shape, angle, zoom, place."""
    height, width = (s.astype(np.float64)[:, None] for s in (sizes.height, sizes.width))
    low, high = config.area_S2().T
    area = (low + (high - low) * u[..., 0]) * height * width
    direction = (
        directions()[_index(u[..., 1])] if config.rotate else np.broadcast_to([1.0, 0.0], (*u.shape[:2], 2))
    )
    cos, sin = direction[..., 0], direction[..., 1]
    flip = np.where((u[..., 2] < 0.5) & config.flip, -1.0, 1.0)
    aspect = log_uniform(*config.aspect)[_index(u[..., 3])]
    along = np.abs(cos), np.abs(sin)
    if config.geometry == "square":
        sides_IS2 = _sides(area, height, width, *along, aspect)
        grid, zoom_IS2 = stretched(sides_IS2, config.tokens_S2()[:, 1], patch_px, config)
        zoom = np.sqrt(zoom_IS2[..., 0] * zoom_IS2[..., 1])
    else:
        sides_IS2 = _sides(area, height, width, *along, _chords(height, width, *along) * aspect)
        zoom = log_uniform(*config.scale_jitter)[_index(u[..., 4])]
        floor, cap = config.tokens_S2().T.astype(np.float64)
        zoom = bounded_zoom(zoom, sides_IS2, floor, cap, patch_px, config)
        grid = snap(sides_IS2 * zoom[..., None] / patch_px, cap)
        zoom_IS2 = np.stack([zoom, zoom], axis=-1)
    extent = grid * patch_px / zoom_IS2  # along the view's own axes, source px
    half_x = (extent[..., 1] * np.abs(cos) + extent[..., 0] * np.abs(sin)) / 2
    half_y = (extent[..., 1] * np.abs(sin) + extent[..., 0] * np.abs(cos)) / 2
    top, left, bottom, right = _boxes(sizes, config)
    centre_x = _place(u[..., 5], half_x, width, left, right)
    centre_y = _place(u[..., 6], half_y, height, top, bottom)
    map_IS23 = affine(grid * patch_px, zoom_IS2, cos, sin, flip, centre_x, centre_y)
    return Cut(grid.astype(np.int32), map_IS23, zoom)


def _boxes(sizes: Sizes, config: ViewConfig) -> list[np.ndarray]:
    """Top, left, bottom and right of where views may be centred: the organism, or the whole image."""
    if config.organism_aware:
        return [sizes.box[:, k : k + 1] for k in range(4)]
    none = np.zeros_like(sizes.height)[:, None]
    return [none, none, sizes.height[:, None], sizes.width[:, None]]


def _index(u: np.ndarray) -> np.ndarray:
    return (u * QUANTILES).astype(np.int64)


def _chords(height: np.ndarray, width: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """The image's own side ratio at an angle: its chord along the view's rows over that along its columns."""
    tiny = 1e-9
    chord_u = np.minimum(width / np.maximum(cos, tiny), height / np.maximum(sin, tiny))
    chord_v = np.minimum(width / np.maximum(sin, tiny), height / np.maximum(cos, tiny))
    return chord_u / chord_v


def _sides(
    area: np.ndarray,
    height: np.ndarray,
    width: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    ratio: np.ndarray,
) -> np.ndarray:
    """Height and width of the rectangle, source px, from its area and its width over its height."""
    side_u = np.minimum(np.sqrt(area * ratio), width * cos + height * sin)
    side_v = np.minimum(np.sqrt(area / ratio), width * sin + height * cos)
    return np.stack([side_v, side_u], axis=-1)


def stretched(
    sides: np.ndarray, cap: np.ndarray, patch_px: int, config: ViewConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The square grid of each view, and the zoom along its columns and rows that stretches the sides to it.

    A side is at least 1 px and at most what max_reduce brings to the square; the rest is cut off. Where
    RandomResizedCrop tries ten sizes and falls back to the whole image, `_sides` shortens the one that is
    too long.
    """
    square = np.floor(np.sqrt(cap.astype(np.float64)))
    square_px = (square * patch_px)[:, None]
    bounded = np.minimum(np.maximum(sides, 1.0), square_px * config.max_reduce)
    grid = np.broadcast_to(square[:, None], sides.shape)
    return grid, square_px / bounded


def bounded_zoom(
    zoom: np.ndarray, sides: np.ndarray, floor: np.ndarray, cap: np.ndarray, patch_px: int, config: ViewConfig
) -> np.ndarray:
    """Zoom that brings the token count between floor and cap, itself bounded on both sides."""
    tokens = sides[..., 0] * sides[..., 1] * zoom * zoom / (patch_px * patch_px)
    wanted_up = np.minimum(zoom * np.sqrt(floor / tokens), np.maximum(zoom, config.max_magnify))
    wanted_down = np.maximum(zoom * np.sqrt(cap / tokens), np.minimum(zoom, 1 / config.max_reduce))
    return np.where(tokens < floor, wanted_up, np.where(tokens > cap, wanted_down, zoom))


def snap(patches: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """Whole patches per side, at least one, their product at most the cap."""
    # What even the strongest reduction leaves above the cap is cut on both sides alike, not to a strip.
    excess = patches[..., 0] * patches[..., 1] / cap
    patches = patches / np.sqrt(np.maximum(excess, 1))[..., None]
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
    """The map from output pixels to source pixels of views centred at (centre_x, centre_y).

    Args:
        size_px: height and width of each view, output px.
        zoom: output px per source px along the view's columns (down) and its rows (across).
    """
    down, across = zoom[..., 0], zoom[..., 1]
    xx, xy = flip * cos / across, -sin / down
    yx, yy = flip * sin / across, cos / down
    mid_y, mid_x = size_px[..., 0] / 2, size_px[..., 1] / 2
    shift_x = centre_x - (xx * mid_x + xy * mid_y)
    shift_y = centre_y - (yx * mid_x + yy * mid_y)
    return np.stack([np.stack([xx, xy, shift_x], -1), np.stack([yx, yy, shift_y], -1)], -2)
