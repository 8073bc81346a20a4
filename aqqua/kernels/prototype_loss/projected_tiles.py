"""Tiles of logits made on the spot: bottleneck rows times prototypes, a block of [rows, columns] at a time.

A row of the bottleneck (Z = 256 or 384) is short enough to stay in shared memory whole, so a program keeps
the rows it owns and streams the other side past them: one product per tile and no loop over Z. As Triton's
blocks are powers of two, Z is cut into the largest one and the rest (384 = 256 + 128).

Letter key: Z bottleneck width, M rows owned, N rows streamed.
Test: tests/kernels/test_prototype_loss_contract.py.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from dataclasses import dataclass
from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

# tl.dot takes no narrower block.
_NARROWEST = 16
# What Triton keeps beside the tiles for reductions and barriers, bytes (seen: up to 0.9 kB).
_SHARED_SLACK = 2 * 1024


@dataclass(frozen=True)
class Blocks:
    """How a kernel of this family is cut."""

    owned: int  # rows of the side that stays
    streamed: int  # rows of the side that passes by
    warps: int
    stages: int  # tiles of the streamed side in flight


@triton.jit
@no_type_check
def _chunk(ptr, o_row, m_row, stride, FIRST: tl.constexpr, WIDTH: tl.constexpr, Z: tl.constexpr):
    o_z = FIRST + tl.arange(0, WIDTH)
    mask = m_row[:, None]
    if FIRST + WIDTH > Z:
        mask = mask & (o_z < Z)[None, :]
    return tl.load(ptr + o_row.to(tl.int64)[:, None] * stride + o_z[None, :], mask=mask, other=0.0)


@triton.jit
@no_type_check
def load_rows(ptr, o_row, m_row, stride, Z: tl.constexpr, Z0: tl.constexpr, Z1: tl.constexpr):
    """Both parts of the rows; the second stands for nothing where Z1 is 0."""
    b_0 = _chunk(ptr, o_row, m_row, stride, 0, Z0, Z)
    b_1 = b_0
    if Z1 > 0:
        b_1 = _chunk(ptr, o_row, m_row, stride, Z0, Z1, Z)
    return b_0, b_1


@triton.jit
@no_type_check
def dot(b_a, b_b, b_sum, UPCAST: tl.constexpr):
    """b_sum + a·b in float32. UPCAST: the interpreter multiplies the raw bits of bfloat16."""
    if UPCAST:
        b_a, b_b = b_a.to(tl.float32), b_b.to(tl.float32)
    return tl.dot(b_a, b_b, b_sum, input_precision="ieee")


@triton.jit
@no_type_check
def logits(owned, streamed, M: tl.constexpr, N: tl.constexpr, Z1: tl.constexpr, UPCAST: tl.constexpr):
    """owned · streamedᵀ, [M, N] in float32, of two pairs of `load_rows`."""
    b_sum = dot(owned[0], tl.trans(streamed[0]), tl.zeros([M, N], tl.float32), UPCAST)
    if Z1 > 0:
        b_sum = dot(owned[1], tl.trans(streamed[1]), b_sum, UPCAST)
    return b_sum


def parts(Z: int) -> tuple[int, int]:
    """Z as two powers of two that tl.dot takes; the second is 0 where one does."""
    first = max(_NARROWEST, 1 << (Z.bit_length() - 1))
    rest = Z - first
    return first, 0 if rest <= 0 else max(_NARROWEST, triton.next_power_of_2(rest))


def constants(rows: Tensor) -> dict[str, int | bool]:
    """The constexpr arguments that follow from the bottleneck rows."""
    Z = rows.shape[1]
    Z0, Z1 = parts(Z)
    return {"Z": Z, "Z0": Z0, "Z1": Z1, "UPCAST": not rows.is_cuda and rows.dtype == torch.bfloat16}


@dataclass(frozen=True)
class Chip:
    """What of a GPU decides the blocks."""

    shared_bytes: int  # one program may use
    # tcgen05 (compute capability 10) takes a tile that enters a second product from copies of its own.
    copies: bool


@cache
def chip(device: torch.device) -> Chip:
    """This device; an H200 for the interpreter."""
    if device.type != "cuda":
        return Chip(227 * 1024, copies=False)
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index or 0)
    return Chip(int(properties["max_shared_mem"]), torch.cuda.get_device_capability(device)[0] == 10)


@dataclass(frozen=True)
class Tiles:
    """How many tiles of bottleneck rows a kernel holds."""

    owned: int
    streamed: int
    reused: bool  # a streamed tile enters a second product


def fit(choices: tuple[Blocks, ...], tiles: Tiles, row_bytes: int, gpu: Chip) -> Blocks:
    """The first of the choices, best first, whose tiles fit into the shared memory.

    Args:
        row_bytes: of one padded bottleneck row.

    Raises:
        ValueError: none fits.
    """
    copies = 2 if tiles.reused and gpu.copies else 0
    for blocks in choices:
        streamed = (tiles.streamed * blocks.stages + copies) * blocks.streamed
        if (tiles.owned * blocks.owned + streamed) * row_bytes <= gpu.shared_bytes - _SHARED_SLACK:
            return blocks
    raise ValueError(
        f"prototype_loss: tiles of bottleneck rows must fit {gpu.shared_bytes} bytes of shared memory, got "
        f"rows of {row_bytes} bytes; store the logits, or use 16 bits or a narrower bottleneck"
    )


def fit_rows(choices: tuple[Blocks, ...], tiles: Tiles, rows: Tensor) -> Blocks:
    """`fit` for these bottleneck rows on their device."""
    row_bytes = sum(parts(rows.shape[1])) * rows.element_size()
    return fit(choices, tiles, row_bytes, chip(rows.device))
