"""Which program of the Triton attention serves which sequence: made once per pack, on the host.

Sequences of up to 128 tokens lie whole in tiles of 64 or 128 rows, several to a tile; longer ones are
cut into blocks of 64 query rows, each of which walks all keys of its sequence; those beyond a limit are
left to another backend. Everything is worked out from the lengths on the CPU and moved to the device in
one copy, so that no layer waits for the GPU and all layers read the same tables.

`best_fit` places the sequences. Any other arrangement of the same fields serves as well
(`Arrangement`), for example one that a faster packer made.

Letter key: V sequences, B tiles or blocks, R rows of a tile, U tokens of sequences left over.
Test: tests/kernels/test_attention_schedule.py.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Int32
from torch import Tensor

NARROW, WIDE = 64, 128  # rows of the two kinds of tiles
BLOCK = 64  # query rows of one program of a sequence too long for a tile
# Longest sequence our kernels serve, tokens: 16 x 16 patches, CLS and up to 63 registers. A guess from
# the arithmetic of kernel.py until both sides of it were timed on a GPU.
LIMIT = 320


@runtime_checkable  # for the check of shapes and types in tests (make shapes)
class Arrangement(Protocol):
    """Where each sequence lies; tiles are numbered from 0, in any order of their rows."""

    @property
    def rows_B(self) -> Int[np.ndarray, " B"]: ...  # NARROW or WIDE, of each tile

    @property
    def tile_V(self) -> Int[np.ndarray, " V"]: ...  # of each sequence; -1 for one in no tile

    @property
    def row_V(self) -> Int[np.ndarray, " V"]: ...  # of its tile, where a sequence begins


@dataclass(frozen=True)
class BestFit:
    """An Arrangement made by `best_fit`."""

    rows_B: Int[np.ndarray, " B"]
    tile_V: Int[np.ndarray, " V"]
    row_V: Int[np.ndarray, " V"]


@dataclass(frozen=True, eq=False)
class Rest:
    """Sequences beyond the limit, as another varlen attention wants them."""

    rows_U: Int[Tensor, " U"]  # int64, on the device: their token rows in the pack, in order
    offsets: Int32[Tensor, " W1"]  # on the device: where each begins among rows_U, then U
    lengths: Int[Tensor, " W"]  # on the CPU
    max_length: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of one pack, on the device; every sequence is in exactly one of them.

    A tile is two rows of its table: for each of its R rows the token row it holds, and the sequence
    that token belongs to; -1 in both where it holds none. A block is (token row where its sequence
    begins, tokens of the sequence, first row of the block within it, number of the sequence's first
    block).
    """

    tokens: int
    narrow_B2R: Int32[Tensor, "B 2 64"]
    wide_B2R: Int32[Tensor, "C 2 128"]
    blocks_B4: Int32[Tensor, "D 4"]
    rest: Rest | None


def best_fit(lengths_V: Int[np.ndarray, " V"], largest: int = WIDE) -> BestFit:
    """Sequences of at most `largest` tokens in tiles, longest first, each where the least room is left.

    A sequence opens the smallest tile that holds it, so short ones fill the gaps of wide tiles first.
    Equal lengths are placed together: the work grows with the number of distinct lengths.
    """
    tile_V, row_V = np.full((2, len(lengths_V)), -1, np.int64)
    room: list[list[_Tiles]] = [[] for _ in range(largest + 1)]  # by rows still free
    opened: list[np.ndarray] = []  # rows of the tiles, as they were opened
    by_length = np.argsort(-lengths_V, kind="stable")
    by_length = by_length[lengths_V[by_length] <= largest]
    ends = np.flatnonzero(np.diff(lengths_V[by_length])) + 1
    for views in np.split(by_length, ends) if len(by_length) else []:
        length = int(lengths_V[views[0]])
        while len(views):
            free = next((rows for rows in range(length, largest + 1) if room[rows]), None)
            if free is None:
                free = NARROW if length <= NARROW else WIDE
                wanted = -(-len(views) // (free // length))
                tiles = _Tiles(free, sum(map(len, opened)) + np.arange(wanted))
                opened.append(np.full(wanted, free))
            else:
                tiles = room[free].pop()
            each = free // length  # sequences of this length a tile takes
            placed = np.arange(min(len(views), each * len(tiles.number_B)))
            tile_V[views[placed]] = tiles.number_B[placed // each]
            row_V[views[placed]] = tiles.rows - free + placed % each * length
            views = views[len(placed) :]
            full, over = divmod(len(placed), each)
            for left, first, last in (
                (free - each * length, 0, full),
                (free - over * length, full, full + 1),  # over = 0: a tile still untouched
                (free, full + 1, len(tiles.number_B)),
            ):
                if first < min(last, len(tiles.number_B)):
                    room[left].append(_Tiles(tiles.rows, tiles.number_B[first:last]))
    return BestFit(np.concatenate(opened) if opened else np.zeros(0, np.int64), tile_V, row_V)


@dataclass(frozen=True)
class _Tiles:
    """Tiles of one size with equal room."""

    rows: int
    number_B: Int[np.ndarray, " B"]


def make_schedule(
    lengths: Int[Tensor, " V"],
    device: torch.device | str,
    arrangement: Arrangement | None = None,
    largest_tile: int = WIDE,
    limit: int = LIMIT,
) -> Schedule:
    """The tables of a pack.

    Args:
        lengths: tokens of each sequence in packed order, on the CPU, at least 1.
        device: where the kernels run.
        arrangement: which sequences share a tile; by default `best_fit` decides.
        largest_tile: 64 or 128; what `launches.largest_tile` says of the head width and the dtype.
        limit: longest sequence to serve, tokens.

    Raises:
        ValueError: lengths are not on the CPU or not positive, largest_tile is another number, or the
            arrangement is not of these lengths.
    """
    lengths_V = _checked(lengths, largest_tile)
    arrangement = arrangement or best_fit(lengths_V, largest_tile)
    _check_arrangement(arrangement, lengths_V, largest_tile)
    starts_V = lengths_V.cumsum() - lengths_V
    narrow, wide = (_tile_table(arrangement, lengths_V, starts_V, rows) for rows in (NARROW, WIDE))
    over_V = arrangement.tile_V < 0
    blocks = _block_table(np.flatnonzero(over_V & (lengths_V <= limit)), lengths_V, starts_V)
    long_W = np.flatnonzero(over_V & (lengths_V > limit))
    rows_U = _tokens(starts_V[long_W], lengths_V[long_W])
    offsets = np.concatenate(([0], lengths_V[long_W].cumsum()))
    parts = [part.astype(np.int32, copy=False) for part in (narrow, wide, blocks, rows_U, offsets)]
    # One buffer, one copy. The tables come first: their sizes keep each of them aligned to 16 bytes.
    flat = torch.from_numpy(np.concatenate([part.ravel() for part in parts])).to(device, non_blocking=True)
    pieces = zip(flat.split([part.size for part in parts]), parts, strict=True)
    tables = [piece.view(part.shape) for piece, part in pieces]
    rest = None
    if len(long_W):
        rest_lengths = torch.from_numpy(lengths_V[long_W])
        rest = Rest(tables[3].long(), tables[4], rest_lengths, int(rest_lengths.max()))
    return Schedule(int(lengths_V.sum()), tables[0], tables[1], tables[2], rest)


# A step asks for the same pack in every layer, and for a few packs in turn.
@lru_cache(maxsize=16)
def schedule_of(lengths: tuple[int, ...], device: torch.device, largest_tile: int) -> Schedule:
    """`make_schedule`, remembered; for callers who keep no schedule beside their pack."""
    return make_schedule(torch.tensor(lengths, dtype=torch.int64), device, largest_tile=largest_tile)


def _checked(lengths: Tensor, largest_tile: int) -> Int[np.ndarray, " V"]:
    """The lengths as int64 NumPy."""
    if lengths.device.type != "cpu":
        raise ValueError(f"schedule: lengths must lie on the CPU, got {lengths.device}; keep the host copy")
    lengths_V = lengths.numpy().astype(np.int64)
    if (lengths_V < 1).any():
        raise ValueError(
            f"schedule: every sequence must have a token, got lengths "
            f"{lengths_V[lengths_V < 1][:8].tolist()}; leave empty ones out"
        )
    if largest_tile not in (NARROW, WIDE):
        raise ValueError(
            f"schedule: largest_tile must be {NARROW} or {WIDE}, got {largest_tile}; "
            "take launches.largest_tile"
        )
    return lengths_V


def _check_arrangement(arrangement: Arrangement, lengths_V: np.ndarray, largest_tile: int) -> None:
    """No sequence may reach beyond its tile; that none lies on another is checked where they are laid out."""
    tile_V, row_V, rows_B = arrangement.tile_V, arrangement.row_V, arrangement.rows_B
    if not len(tile_V) == len(row_V) == len(lengths_V):
        raise ValueError(
            f"schedule: the arrangement must be of the pack's {len(lengths_V)} sequences, got "
            f"{len(tile_V)} tiles and {len(row_V)} rows; arrange the same lengths"
        )
    if not np.isin(rows_B, [rows for rows in (NARROW, WIDE) if rows <= largest_tile]).all():
        raise ValueError(
            f"schedule: tiles must have {NARROW} or {WIDE} rows and at most {largest_tile}, got "
            f"{sorted(set(rows_B.tolist()))}; arrange for these"
        )
    held_V = tile_V >= 0
    ends = row_V[held_V] + lengths_V[held_V]
    if (
        (tile_V[held_V] >= len(rows_B)).any()
        or (row_V[held_V] < 0).any()
        or (ends > rows_B[tile_V[held_V]]).any()
    ):
        raise ValueError(
            "schedule: every sequence must lie inside its tile, got one that reaches beyond; "
            "arrange the same lengths"
        )


def _tokens(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ..., one run of `lengths` numbers after the other."""
    first = lengths.cumsum() - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)


def _tile_table(
    arrangement: Arrangement, lengths_V: np.ndarray, starts_V: np.ndarray, rows: int
) -> Int[np.ndarray, "B 2 R"]:
    """Token row and sequence of each row of the tiles of this size."""
    this_B = arrangement.rows_B == rows
    tiles = int(this_B.sum())
    table = np.full((tiles, 2, rows), -1, np.int32)
    held = arrangement.tile_V >= 0
    held[held] = this_B[arrangement.tile_V[held]]
    views = np.flatnonzero(held)
    number_B = this_B.cumsum() - 1
    place = number_B[arrangement.tile_V[views]] * rows + arrangement.row_V[views]
    slots = _tokens(place, lengths_V[views])
    at = slots + slots // rows * rows  # in the flat table: two rows of `rows` for each tile
    flat = table.ravel()
    flat[at] = _tokens(starts_V[views], lengths_V[views])
    flat[at + rows] = np.repeat(views, lengths_V[views])
    if int((table[:, 0] >= 0).sum()) != len(slots):
        raise ValueError("schedule: no two sequences may share a row of a tile, got some; arrange again")
    return table


def _block_table(views: np.ndarray, lengths_V: np.ndarray, starts_V: np.ndarray) -> Int[np.ndarray, "B 4"]:
    """The blocks of these sequences; those of the longest first, so that none of them is the last to end."""
    views = views[np.argsort(-lengths_V[views], kind="stable")]
    counts = -(-lengths_V[views] // BLOCK)
    first_block = counts.cumsum() - counts
    within = _tokens(np.zeros_like(counts), counts) * BLOCK
    columns = (np.repeat(column, counts) for column in (starts_V[views], lengths_V[views]))
    return np.stack((*columns, within, np.repeat(first_block, counts)), axis=1)
