"""How densely points lie, and of what kind they are, for maps with more points than a browser draws.

The window that a person looks at is cut into cells of a few pixels, so zooming in makes them finer until each
holds one image. A cell has a shade, the logarithm of its count, and a colour: of the commonest name among its
points, or of the mean of their numbers. `cell_about` says what is in one cell.

Counts are those of NumPy: ten million points take less than a second (bench/explore_page.py measures the
answer in the browser), and datashader, which does the same, would add numba, xarray, dask and pandas.
Letter key: N points, K kept ones, I in the window. Test: tests/explore/server/test_density.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from aqqua.explore.server.columns import NAMES, Values

WHO = "explore density"
MOST_SIDE = 2048  # cells
MOST_COLOURS = 250
Window = tuple[float, float, float, float]  # left, right, bottom, top


@dataclass(frozen=True)
class Colour:
    """A column as numbers of colours."""

    name_N: Int32[np.ndarray, " N"] | None  # of names: which; -1 unknown
    value_N: Float32[np.ndarray, " N"] | None  # of numbers, 0 to 1 between the ends; NaN unknown
    count: int  # names that have a colour, or steps of a scale; `count` of numbers is unknown
    colour_C: Int32[np.ndarray, " C"] | None = None  # of each name: `count` the others; then of unknown

    @staticmethod
    def of_names(values: Values, names: Sequence[str]) -> "Colour":
        """
        Args:
            names: that have a colour of their own, in the order of the colours.

        Raises:
            ValueError: they are no such names.
        """
        few = isinstance(names, list) and len(names) <= MOST_COLOURS
        if not few or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{WHO}: colours must be a list of at most {MOST_COLOURS} names, got others")
        place = {name: number for number, name in enumerate(names)}
        colour_C = [place.get(name, len(names)) for name in values.names] + [len(names) + 1]  # -1 is the last
        return Colour(values.values, None, len(names), np.array(colour_C, np.int32))

    @staticmethod
    def of_numbers(values: Values, low: float, high: float, steps: int) -> "Colour":
        """
        Raises:
            ValueError: the ends are not in order, or there are no steps.
        """
        if not (low < high and high - low < math.inf and 2 <= steps <= MOST_COLOURS):
            raise ValueError(
                f"{WHO}: a scale must have low < high and 2 to {MOST_COLOURS} steps, got {low}, {high} and "
                f"{steps}; correct it"
            )
        share_N = ((values.values - low) / (high - low)).clip(0, 1).astype(np.float32)
        return Colour(None, share_N, steps)


def window_of(values: list[str]) -> Window:
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


def density(
    x: Float32[np.ndarray, " N"],
    y: Float32[np.ndarray, " N"],
    rows: Int64[np.ndarray, " K"] | None,
    window: Window,
    width: int,
    height: int,
    colour: Colour | None = None,
) -> UInt8[np.ndarray, "2 height width"]:
    """Shades (0 empty, 255 the fullest) and numbers of colours of the cells of a window, the top first.

    Args:
        x: of all points.
        y: of all points.
        rows: of the points counted; None: all.
        window: left, right, bottom, top.
        width: of the window, in cells.
        height: of the window, in cells.
        colour: None: all have the number 0.

    Raises:
        ValueError: there are too many cells, or none.
    """
    if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
        raise ValueError(
            f"{WHO}: a window must have 1 to {MOST_SIDE} cells a side, got {width} × {height}; ask for less"
        )
    left, right, bottom, top = window
    at_x, at_y = (x, y) if rows is None else (x[rows], y[rows])
    column = np.floor((at_x - left) * (width / (right - left))).astype(np.int32)
    line = np.floor((top - at_y) * (height / (top - bottom))).astype(np.int32)
    there = np.flatnonzero((column >= 0) & (column < width) & (line >= 0) & (line < height))
    cell_I = line[there].astype(np.int64) * width + column[there]
    count = np.bincount(cell_I, minlength=width * height)
    shade = np.log1p(count) / max(np.log1p(count.max()), 1e-9)
    found = np.zeros((2, height * width), np.uint8)
    found[0] = np.where(count > 0, 1 + np.round(254 * shade), 0)
    if colour is not None:
        found[1] = _colours(cell_I, there if rows is None else rows[there], colour, width * height)
    return found.reshape(2, height, width)


def _colours(
    cell_I: Int64[np.ndarray, " I"], row_I: Int64[np.ndarray, " I"], colour: Colour, cells: int
) -> np.ndarray:
    """Of each cell."""
    if colour.name_N is not None and colour.colour_C is not None:
        return colour.colour_C[_commonest(cell_I, colour.name_N[row_I], cells)]
    assert colour.value_N is not None
    value_I = colour.value_N[row_I]
    known = ~np.isnan(value_I)
    count = np.bincount(cell_I[known], minlength=cells)
    mean = np.bincount(cell_I[known], value_I[known], minlength=cells) / count.clip(1)
    step = np.round(mean * (colour.count - 1)).astype(np.int32)
    return np.where(count > 0, step, colour.count)


def _commonest(
    cell_I: Int64[np.ndarray, " I"], name_I: Int32[np.ndarray, " I"], cells: int
) -> Int64[np.ndarray, " cells"]:
    """The commonest name in each cell, of equally common ones the first; -1 where no name is known."""
    known = name_I >= 0
    found = np.full(cells, -1, np.int64)
    if not known.any():
        return found
    names = int(name_I.max()) + 1
    key_K = np.sort(cell_I[known] * names + name_I[known])
    first_P = np.flatnonzero(np.diff(key_K, prepend=-1))  # of each pair of a cell and a name in it
    cell_P, name_P = np.divmod(key_K[first_P], names)
    rank_P = np.diff(first_P, append=len(key_K)) * names + (names - 1 - name_P)  # by count, then the first
    first_C = np.flatnonzero(np.diff(cell_P, prepend=-1))
    found[cell_P[first_C]] = names - 1 - np.maximum.reduceat(rank_P, first_C) % names
    return found


def cell_about(
    x: Float32[np.ndarray, " N"],
    y: Float32[np.ndarray, " N"],
    rows: Int64[np.ndarray, " K"] | None,
    window: Window,
    values: Values | None,
) -> dict[str, Any]:
    """What lies in a cell; JSON: how many points, one of them, and the commonest name or the mean.

    Args:
        rows: of the points counted, ascending; None: all.
        window: the cell: left, right, bottom, top; its right and bottom edges are the next cell's.
        values: a column; None: only count and row.

    Returns:
        `count`; where it is not 0 `row`, of the commonest name; `name` and `share` (0 to 1, of all), or
        `mean`, None where nothing is known.
    """
    left, right, bottom, top = window
    inside_N = (x >= left) & (x < right) & (y > bottom) & (y <= top)
    row_I = np.flatnonzero(inside_N) if rows is None else rows[inside_N[rows]]
    if not len(row_I):
        return {"count": 0}
    told: dict[str, Any] = {"count": len(row_I), "row": int(row_I[0])}
    if values is None:
        return told
    value_I = values.values[row_I]
    if values.kind != NAMES:
        known_I = value_I[~np.isnan(value_I)]
        return {**told, "mean": float(known_I.mean(dtype=np.float64)) if len(known_I) else None}
    known_I = value_I[value_I >= 0]
    if not len(known_I):
        return {**told, "name": None, "share": None}
    code = int(np.bincount(known_I).argmax())
    row = int(row_I[int((value_I == code).argmax())])
    share = float((value_I == code).mean())
    return {**told, "row": row, "name": values.names[code], "share": round(share, 4)}


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
