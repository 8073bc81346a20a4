"""Which program of the Triton attention serves which sequence: made once per pack, on the host.

Sequences of up to 128 tokens lie whole in tiles of 64 or 128 rows, several to a tile; longer ones are
cut into blocks of 64 query rows, each of which walks all keys of its sequence; those beyond a limit are
left to another backend. Everything is worked out from the lengths on the CPU and moved to the device in
one copy, so that no layer waits for the GPU and all layers read the same tables.

Letter key: V sequences, B tiles or blocks, R rows of a tile, U tokens of sequences left over.
Test: tests/kernels/test_attention_schedule.py.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int, Int32
from torch import Tensor

NARROW, WIDE = 64, 128  # rows of the two kinds of tiles
BLOCK = 64  # query rows of one program of a sequence too long for a tile
# Longest sequence our kernels serve, tokens: 16 x 16 patches, CLS and up to 63 registers. A guess from
# the arithmetic of kernel.py until both sides of it were timed on a GPU.
LIMIT = 320


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


def make_schedule(
    lengths: Int[Tensor, " V"],
    device: torch.device | str,
    largest_tile: int = WIDE,
    limit: int = LIMIT,
) -> Schedule:
    """The tables of a pack.

    Args:
        lengths: tokens of each sequence in packed order, on the CPU, at least 1.
        device: where the kernels run.
        largest_tile: 64 or 128; what `launches.largest_tile` says of the head width and the dtype.
        limit: longest sequence to serve, tokens.

    Raises:
        ValueError: lengths are not on the CPU or not positive, or largest_tile is another number.
    """
    lengths_V = _checked(lengths, largest_tile)
    from aqqua.kernels.attention.tiles import (  # needs the C++ core; the other backends do not
        arrange,
        lay_out,
    )

    tiles = arrange(lengths_V, tuple(rows for rows in (NARROW, WIDE) if rows <= largest_tile))
    starts_V = lengths_V.cumsum() - lengths_V
    narrow, wide = (lay_out(tiles, rows) for rows in (NARROW, WIDE))
    over_V = tiles.tile_V < 0
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


def _tokens(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ..., one run of `lengths` numbers after the other."""
    first = lengths.cumsum() - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)


def _block_table(views: np.ndarray, lengths_V: np.ndarray, starts_V: np.ndarray) -> Int[np.ndarray, "B 4"]:
    """The blocks of these sequences; those of the longest first, so that none of them is the last to end."""
    views = views[np.argsort(-lengths_V[views], kind="stable")]
    counts = -(-lengths_V[views] // BLOCK)
    first_block = counts.cumsum() - counts
    within = _tokens(np.zeros_like(counts), counts) * BLOCK
    columns = (np.repeat(column, counts) for column in (starts_V[views], lengths_V[views]))
    return np.stack((*columns, within, np.repeat(first_block, counts)), axis=1)
