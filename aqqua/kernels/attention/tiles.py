"""Which sequences of a pack share an attention tile, so that none lies across two.

An attention kernel works on tiles of 64 or 128 rows; most views are shorter. Here several short
sequences share a tile, each whole: the longest that is left opens a tile, and those that fill its
rest best join it. (Best fit, the longest first, leaves 1.7 % of 64 rows empty on ISIIS images at patch
8, whose views rarely have under 5 tokens: gaps of 1 to 4 rows stay.) With tiles of several sizes
(classes) a sequence opens the smallest that holds it. So short sequences fill the gaps of large tiles
for nothing and cost small ones otherwise: a tile's work grows with the square of its rows. A sequence
longer than every tile is left to another kernel.

`arrange` and `lay_out` are served by C++ (aqqua._core); `*_reference` are their specifications.

Letters: V sequences, J of them in tiles, W longer than any, B tiles.
Test: tests/plan/test_attention_tiles.py. Timing and fill: bench/data/tiles.py.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int32, Integer

from aqqua import _core

MOST_TILE_ROWS = 128


@dataclass(frozen=True)
class Tiles:
    """Where each of V sequences lies. Tile b holds order_J[start_B1[b]:start_B1[b+1]], from its row 0 on.

    Tiles stand by size, the largest first.
    """

    lengths_V: Int32[np.ndarray, " V"]  # as given
    order_J: Int32[np.ndarray, " J"]  # the sequences in tiles, tile by tile
    start_B1: Int32[np.ndarray, " B1"]  # where each tile begins in order_J, then J
    rows_B: Int32[np.ndarray, " B"]  # of each tile
    tile_V: Int32[np.ndarray, " V"]  # of each sequence; -1 for one longer than any
    row_V: Int32[np.ndarray, " V"]  # of its tile, where a sequence begins; -1 for one longer than any
    long_W: Int32[np.ndarray, " W"]  # sequences longer than any tile, in their order

    @property
    def n_tiles(self) -> int:
        return len(self.rows_B)

    def tiles_of(self, rows: int) -> range:
        """The tiles of so many rows."""
        first, end = np.searchsorted(-self.rows_B, [-rows, -rows + 1])
        return range(int(first), int(end))

    @property
    def fill(self) -> float:
        """Share of the tiles' rows that hold a token; 1 where there is no tile."""
        rows = int(self.rows_B.sum(dtype=np.int64))
        return int(self.lengths_V[self.order_J].sum(dtype=np.int64)) / rows if rows else 1.0

    @property
    def useful_work(self) -> float:
        """Share of the tiles' scores that are needed: Σ length² / Σ rows²; 1 where there is no tile."""
        area = int(np.square(self.rows_B, dtype=np.int64).sum())
        return int(np.square(self.lengths_V[self.order_J], dtype=np.int64).sum()) / area if area else 1.0


def arrange(lengths_V: Integer[np.ndarray, " V"], tile_rows: tuple[int, ...]) -> Tiles:
    """The tiles of a pack's sequences: a pure function of their lengths, in O(V).

    Args:
        lengths_V: tokens of each sequence, at least 1.
        tile_rows: rows of the tiles, one size for each class, rising, at most 128: (64,) or (16, 32, 64).

    Raises:
        ValueError: a length is not a whole number from 1 to 2**31 - 1, or tile_rows do not rise in 1 to 128.
    """
    lengths_V = _checked(lengths_V, tile_rows)
    return Tiles(lengths_V, *_core.arrange(lengths_V, tile_rows))


def lay_out(tiles: Tiles, rows: int) -> Int32[np.ndarray, "B 2 R"]:
    """For each row of the tiles of R = `rows` rows: the token it holds, then the sequence that is of.

    Tokens are numbered as the sequences stand; -1 in both where a row holds none.
    """
    these = tiles.tiles_of(rows)
    return _core.lay_out(tiles.lengths_V, tiles.tile_V, tiles.row_V, these.start, len(these), rows)


def lay_out_reference(tiles: Tiles, rows: int) -> Int32[np.ndarray, "B 2 R"]:
    """The specification of `lay_out`."""
    these = tiles.tiles_of(rows)
    table = np.full((len(these), 2, rows), -1, np.int32)
    starts_V = np.cumsum(tiles.lengths_V) - tiles.lengths_V
    for number, tile in enumerate(these):
        for view in tiles.order_J[tiles.start_B1[tile] : tiles.start_B1[tile + 1]]:
            length, row = tiles.lengths_V[view], tiles.row_V[view]
            table[number, 0, row : row + length] = starts_V[view] + np.arange(length)
            table[number, 1, row : row + length] = view
    return table


def arrange_reference(lengths_V: Integer[np.ndarray, " V"], tile_rows: tuple[int, ...]) -> Tiles:
    """The specification of `arrange`, one tile after the other; sequences of one length in their order."""
    lengths_V = _checked(lengths_V, tile_rows)
    waiting = {n: np.flatnonzero(lengths_V == n).tolist() for n in range(1, tile_rows[-1] + 1)}
    rows_B: list[int] = []
    content_B: list[list[int]] = []
    tile_V, row_V = np.full((2, len(lengths_V)), -1, np.int32)
    while longest := max((n for n in waiting if waiting[n]), default=0):
        rows = min(rows for rows in tile_rows if rows >= longest)
        content = [waiting[longest].pop(0)]
        for length in fillers(rows - longest, {n: len(waiting[n]) for n in waiting}):
            content.append(waiting[length].pop(0))
        row_V[content] = np.cumsum(lengths_V[content]) - lengths_V[content]
        tile_V[content] = len(rows_B)
        rows_B.append(rows)
        content_B.append(content)
    return Tiles(
        lengths_V=lengths_V,
        order_J=np.array([v for content in content_B for v in content], np.int32),
        start_B1=np.cumsum([0, *map(len, content_B)], dtype=np.int32),
        rows_B=np.array(rows_B, np.int32),
        tile_V=tile_V,
        row_V=row_V,
        long_W=np.flatnonzero(tile_V < 0).astype(np.int32),
    )


def fillers(room: int, counts: dict[int, int]) -> list[int]:
    """The lengths that leave least of a room; of several such choices, the one with the longest first.

    Args:
        room: rows to be filled.
        counts: how many sequences there are of each length.
    """
    lengths = [n for n in sorted(counts) if n <= room]
    sums = [{0}]  # after i lengths: all that sequences of the i shortest ones can add up to, within the room
    for n in lengths:
        sums.append({s for low in sums[-1] for s in range(low, min(low + n * counts[n], room) + 1, n)})
    left, chosen = max(sums[-1]), []
    for n, shorter in zip(reversed(lengths), reversed(sums[:-1]), strict=True):
        copies = next(k for k in range(min(counts[n], left // n), -1, -1) if left - k * n in shorter)
        chosen += [n] * copies
        left -= copies * n
    return chosen


def _checked(lengths_V: np.ndarray, tile_rows: tuple[int, ...]) -> Int32[np.ndarray, " V"]:
    """The lengths as contiguous int32."""
    steps = pairwise((0, *tile_rows))
    if not tile_rows or tile_rows[-1] > MOST_TILE_ROWS or any(low >= high for low, high in steps):
        raise ValueError(
            f"arrange: tile_rows must rise within 1 to {MOST_TILE_ROWS}, got {tile_rows}; "
            "give the rows of each class's tiles once"
        )
    if not isinstance(lengths_V, np.ndarray):
        raise ValueError(
            f"arrange: lengths must be an array of whole numbers [V], got {type(lengths_V)}; convert them"
        )
    if lengths_V.ndim != 1 or lengths_V.dtype.kind not in "iu":
        raise ValueError(
            f"arrange: lengths must be whole numbers [V], got {lengths_V.dtype} {list(lengths_V.shape)}; "
            "convert them"
        )
    wrong = np.flatnonzero((lengths_V < 1) | (lengths_V >= 1 << 31))
    if len(wrong):
        raise ValueError(
            f"arrange: lengths must be 1 to 2**31 - 1, got {lengths_V[wrong[0]]} for sequence {wrong[0]}; "
            "leave empty sequences out"
        )
    return np.ascontiguousarray(lengths_V, np.int32)
