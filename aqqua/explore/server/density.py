"""How densely points lie, as a picture, for maps with more points than a browser draws.

Counts in the cells of a window of the map, grey by the logarithm: dark where many are, clear where none.
Test: tests/explore/server/test_density.py.
"""

import io
import math

import numpy as np
from jaxtyping import Float32, Int64

WHO = "explore density"
MOST_PX = 2048  # of a side
_INK = np.array([0, 68, 136], np.uint8)  # on light and on dark paper


def window_of(values: list[str]) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a window of the map.

    Raises:
        ValueError: they are no such numbers.
    """
    try:
        left, right, bottom, top = (float(value) for value in values)
    except ValueError:
        left = right = bottom = top = math.nan
    if not (-1e3 < left < right < 1e3 and -1e3 < bottom < top < 1e3):
        raise ValueError(f"{WHO}: a window must be left < right and bottom < top, got {values}; correct it")
    return left, right, bottom, top


def density_png(
    x: Float32[np.ndarray, " N"],
    y: Float32[np.ndarray, " N"],
    rows: Int64[np.ndarray, " K"] | None,
    window: tuple[float, float, float, float],
    width: int,
    height: int,
) -> bytes:
    """A PNG of the points in a window, the top first.

    Args:
        x: of all points.
        y: of all points.
        rows: of the points counted; None: all.
        window: left, right, bottom, top.
        width: of the picture, px.
        height: of the picture, px.

    Raises:
        ValueError: the picture is too large or has no pixel.
    """
    from PIL import Image

    if not (1 <= width <= MOST_PX and 1 <= height <= MOST_PX):
        raise ValueError(
            f"{WHO}: a picture must have 1 to {MOST_PX} px a side, got {width} × {height}; ask for less"
        )
    left, right, bottom, top = window
    at_x, at_y = (x, y) if rows is None else (x[rows], y[rows])
    column = np.floor((at_x - left) * (width / (right - left))).astype(np.int32)
    line = np.floor((top - at_y) * (height / (top - bottom))).astype(np.int32)
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    cells = line[inside].astype(np.int64) * width + column[inside]
    count = np.bincount(cells, minlength=width * height).reshape(height, width)
    shade = np.log1p(count) / max(np.log1p(count.max()), 1e-9)
    picture = np.empty((height, width, 4), np.uint8)
    picture[..., :3] = _INK + (np.array([253, 231, 37]) - _INK) * shade[..., None] ** 2
    picture[..., 3] = np.where(count > 0, 90 + 165 * shade, 0)
    file = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(file, "PNG", compress_level=1)
    return file.getvalue()


def inside(
    x: Float32[np.ndarray, " N"], y: Float32[np.ndarray, " N"], corners: list[tuple[float, float]]
) -> Int64[np.ndarray, " K"]:
    """Rows of the points inside a polygon (even-odd rule), in order.

    Raises:
        ValueError: it has too few corners, or too many.
    """
    if not 3 <= len(corners) <= 2000:
        raise ValueError(f"{WHO}: a lasso must have 3 to 2000 corners, got {len(corners)}; draw another")
    polygon = np.asarray(corners, np.float64)
    low, high = polygon.min(0), polygon.max(0)
    rows = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
    at_x, at_y = x[rows].astype(np.float64), y[rows].astype(np.float64)
    odd = np.zeros(len(rows), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        crosses = (ay > at_y) != (by > at_y)
        if ay != by:
            odd ^= crosses & (at_x < (bx - ax) * (at_y - ay) / (by - ay) + ax)
    return rows[odd]
