"""Sinkhorn's sweeps over stored teacher logits: the Triton kernels and their launches.

All are bound by memory: each reads the logits once. A program holds a tile of several rows, because the
float32 scalings log_u (4 bytes per prototype) are twice as wide as a bfloat16 logit: row by row they
would be, read from L2, the larger traffic.

- `row_kernel`: log-sum-exp of every row, the running maximum kept beside the running sum.
- `column_kernel`: the same down every column, over a share of the rows. Partials go to the join.
- `join_kernel`: partials of all shares and packs to one whole number per prototype, which adds exactly.

No two programs write the same element, so every run gives the same bits.

Dimension key:  R rows of a pack, K prototypes, N partials, S shares of the columns.
Names:          i_ program index, o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Test: tests/kernels/test_prototype_loss.py.
Arguments are checked in __init__.py, once for all implementations.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from aqqua.kernels.prototype_loss.reference import FIXED_POINT
from aqqua.kernels.prototype_loss.tile import Tile
from aqqua.kernels.registration import launch

# Guesses by the rule of 32 to 64 elements per thread: several 16-byte loads in flight, no spill.
# No GPU was at hand; bench/kernels/prototype_loss.py is there to tune them.
ROW_TILE = Tile(rows=4, columns=2048, warps=8)
COLUMN_TILE = Tile(rows=8, columns=1024, warps=4)
JOIN_TILE = Tile(rows=1, columns=256, warps=4)
# Shares of the work: fixed numbers, not the GPU's size, so that the bits do not depend on the GPU.
ROWS_PER_SHARE = 512
COLUMNS_PER_SHARE = 16_384

_FIXED_POINT = tl.constexpr(FIXED_POINT)


@triton.jit
@no_type_check
def log_sum_step(b_largest, b_sum, b_x, AXIS: tl.constexpr):
    """Take one more tile into the running (largest, sum of exp relative to it) along AXIS."""
    b_new = tl.maximum(b_largest, tl.max(b_x, axis=AXIS))
    # Where all is -inf so far, the sum is relative to 0 and is 0.
    b_base = tl.where(b_new == float("-inf"), 0.0, b_new)
    b_sum = b_sum * tl.exp(b_largest - b_base) + tl.sum(tl.exp(b_x - tl.expand_dims(b_base, AXIS)), axis=AXIS)
    return b_new, b_sum


@triton.jit
@no_type_check
def row_kernel(
    logits_ptr,
    log_u_ptr,
    lse_ptr,
    R,
    K,
    stride,
    columns_per_share,
    inverse_temperature,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program: BLOCK_R rows, one share of the columns."""
    o_r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    m_r = o_r < R
    o_row = o_r.to(tl.int64)[:, None] * stride
    first = tl.program_id(1) * columns_per_share
    last = tl.minimum(first + columns_per_share, K)

    b_largest = tl.full([BLOCK_R], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_R], tl.float32)
    for start in range(first, last, BLOCK_K):
        o_k = start + tl.arange(0, BLOCK_K)
        m_k = o_k < last
        b_u = tl.load(log_u_ptr + o_k, mask=m_k, other=float("-inf"))
        b_x = tl.load(logits_ptr + o_row + o_k[None, :], mask=m_r[:, None] & m_k[None, :], other=0.0)
        b_x = b_x.to(tl.float32) * inverse_temperature + b_u[None, :]
        b_largest, b_sum = log_sum_step(b_largest, b_sum, b_x, 1)
    shares = tl.num_programs(1)
    tl.store(lse_ptr + o_r.to(tl.int64) * shares + tl.program_id(1), b_largest + tl.log(b_sum), mask=m_r)


@triton.jit
@no_type_check
def column_kernel(
    logits_ptr,
    log_u_ptr,
    lse_ptr,
    largest_ptr,
    sum_ptr,
    R,
    K,
    stride,
    rows_per_share,
    inverse_temperature,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program: BLOCK_K columns, one share of the rows."""
    o_k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    m_k = o_k < K
    first = tl.program_id(1) * rows_per_share
    last = tl.minimum(first + rows_per_share, R)
    b_u = tl.load(log_u_ptr + o_k, mask=m_k, other=0.0)

    b_largest = tl.full([BLOCK_K], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_K], tl.float32)
    for start in range(first, last, BLOCK_R):
        o_r = start + tl.arange(0, BLOCK_R)
        m_r = o_r < last
        b_lse = tl.load(lse_ptr + o_r, mask=m_r, other=0.0)
        o_row = o_r.to(tl.int64)[:, None] * stride
        b_x = tl.load(logits_ptr + o_row + o_k[None, :], mask=m_r[:, None] & m_k[None, :], other=0.0)
        b_x = b_x.to(tl.float32) * inverse_temperature + b_u[None, :] - b_lse[:, None]
        b_x = tl.where(m_r[:, None], b_x, float("-inf"))
        b_largest, b_sum = log_sum_step(b_largest, b_sum, b_x, 0)
    # The maximum may pass over a NaN, the sum never does; the join looks for it in the maximum.
    b_largest = tl.where(b_sum == b_sum, b_largest, float("nan"))
    o_out = tl.program_id(1).to(tl.int64) * K + o_k
    tl.store(largest_ptr + o_out, b_largest, mask=m_k)
    tl.store(sum_ptr + o_out, b_sum, mask=m_k)


@triton.jit
@no_type_check
def join_kernel(partial_ptr, sum_ptr, largest_ptr, total_ptr, N, K, BLOCK_K: tl.constexpr):
    """One program: BLOCK_K columns of all N partials, in units of 2**-36 of the column's largest."""
    o_k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    m_k = o_k < K
    b_largest = tl.load(largest_ptr + o_k, mask=m_k, other=0.0)
    b_total = tl.zeros([BLOCK_K], tl.int64)
    for n in range(N):
        o_n = tl.cast(n, tl.int64) * K + o_k
        b_part = tl.load(partial_ptr + o_n, mask=m_k, other=0.0)
        b_sum = tl.load(sum_ptr + o_n, mask=m_k, other=0.0)
        b_relative = (b_sum * tl.exp(b_part - b_largest)).to(tl.float64)
        b_total += tl.floor(b_relative * _FIXED_POINT + 0.5).to(tl.int64)
    tl.store(total_ptr + o_k, b_total, mask=m_k)


def row_normalisers(logits_RK: Tensor, log_u_K: Tensor, inverse_temperature: float) -> Tensor:
    """lse_R of logits / temperature + log_u."""
    R, K = logits_RK.shape
    shares = triton.cdiv(K, COLUMNS_PER_SHARE)
    lse_RS = logits_RK.new_empty(R, shares, dtype=torch.float32)
    if R > 0:
        launch(
            row_kernel,
            (triton.cdiv(R, ROW_TILE.rows), shares),
            logits_RK,
            log_u_K,
            lse_RS,
            R,
            K,
            logits_RK.stride(0),
            COLUMNS_PER_SHARE,
            inverse_temperature,
            BLOCK_R=ROW_TILE.rows,
            BLOCK_K=ROW_TILE.columns,
            num_warps=ROW_TILE.warps,
        )
    return lse_RS.logsumexp(dim=1)


def column_sums(
    logits_RK: Tensor, log_u_K: Tensor, lse_R: Tensor, inverse_temperature: float
) -> tuple[Tensor, Tensor]:
    """(largest_NK, sum_NK): the log-sum-exp of every column over each share of the rows."""
    R, K = logits_RK.shape
    shares = triton.cdiv(R, ROWS_PER_SHARE)
    largest_NK = logits_RK.new_empty(shares, K, dtype=torch.float32)
    sum_NK = torch.empty_like(largest_NK)
    if R > 0:
        launch(
            column_kernel,
            (triton.cdiv(K, COLUMN_TILE.columns), shares),
            logits_RK,
            log_u_K,
            lse_R,
            largest_NK,
            sum_NK,
            R,
            K,
            logits_RK.stride(0),
            ROWS_PER_SHARE,
            inverse_temperature,
            BLOCK_R=COLUMN_TILE.rows,
            BLOCK_K=COLUMN_TILE.columns,
            num_warps=COLUMN_TILE.warps,
        )
    return largest_NK, sum_NK


def join(partial_NK: Tensor, sum_NK: Tensor, largest_K: Tensor) -> Tensor:
    """total_K (int64): the sums of all partials in units of 2**-36 of exp(largest)."""
    N, K = sum_NK.shape
    total_K = torch.empty(K, dtype=torch.int64, device=sum_NK.device)
    launch(
        join_kernel,
        (triton.cdiv(K, JOIN_TILE.columns),),
        partial_NK,
        sum_NK,
        largest_K,
        total_K,
        N,
        K,
        BLOCK_K=JOIN_TILE.columns,
        num_warps=JOIN_TILE.warps,
    )
    return total_K
