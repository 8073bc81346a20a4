"""Sinkhorn's sweeps over teacher logits that are never stored: the Triton kernel and its launches.

The sum along a row of logits and the sum down a column are one kernel: the side whose sums are wanted
(bottleneck rows, or prototypes) stays, the other is streamed past it, as keys are past queries in
attention. Per row and pass 2·K·Z operations (67 million at K = 131 072, Z = 256) and no byte of logits.

Dimension key:  M rows owned, N rows streamed, S shares of N, Z bottleneck width; R bottleneck rows of a
                pack, K prototypes.
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

from aqqua.kernels.prototype_loss.projected_tiles import Blocks, Tiles, constants, fit_rows, load_rows, logits
from aqqua.kernels.prototype_loss.stored_sweeps import log_sum_step
from aqqua.kernels.registration import launch

# Best first, the first that fits serves; guesses, as no GPU was at hand. 128 rows of two groups of 4 warps:
# each group's product is a wgmma of 64 rows.
SWEEP_BLOCKS = (
    Blocks(owned=128, streamed=128, warps=8, stages=2),
    Blocks(owned=128, streamed=64, warps=8, stages=2),
    Blocks(owned=128, streamed=32, warps=8, stages=2),
    Blocks(owned=64, streamed=32, warps=4, stages=2),
    Blocks(owned=64, streamed=16, warps=4, stages=1),
)
TILES = Tiles(owned=1, streamed=1, reused=False)
# Shares of the streamed side: fixed numbers, so that the bits do not depend on the GPU's size.
ROWS_PER_SHARE = 1024
COLUMNS_PER_SHARE = 4096


@triton.jit
@no_type_check
def sweep_kernel(
    owned_ptr,
    streamed_ptr,
    bias_m_ptr,
    bias_n_ptr,
    largest_ptr,
    sum_ptr,
    M,
    N,
    stride_m,
    stride_n,
    per_share,
    inverse_temperature,
    Z: tl.constexpr,
    Z0: tl.constexpr,
    Z1: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One program: the log-sum-exp of BLOCK_M rows over one share of the others."""
    o_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    m_m = o_m < M
    first = tl.program_id(1) * per_share
    last = tl.minimum(first + per_share, N)
    owned = load_rows(owned_ptr, o_m, m_m, stride_m, Z, Z0, Z1)
    b_bias = tl.load(bias_m_ptr + o_m, mask=m_m, other=0.0)

    b_largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    for start in range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        m_n = o_n < last
        streamed = load_rows(streamed_ptr, o_n, m_n, stride_n, Z, Z0, Z1)
        b_n = tl.load(bias_n_ptr + o_n, mask=m_n, other=float("-inf"))
        b_x = logits(owned, streamed, BLOCK_M, BLOCK_N, Z1, UPCAST)
        b_x = b_x * inverse_temperature + b_bias[:, None] + b_n[None, :]
        b_largest, b_sum = log_sum_step(b_largest, b_sum, b_x, 1)
    # The maximum may pass over a NaN, the sum never does; the join looks for it in the maximum.
    b_largest = tl.where(b_sum == b_sum, b_largest, float("nan"))
    o_out = tl.program_id(1).to(tl.int64) * M + o_m
    tl.store(largest_ptr + o_out, b_largest, mask=m_m)
    tl.store(sum_ptr + o_out, b_sum, mask=m_m)


def _sweep(
    owned_MZ: Tensor,
    streamed_NZ: Tensor,
    bias_M: Tensor,
    bias_N: Tensor,
    per_share: int,
    inverse_temperature: float,
) -> tuple[Tensor, Tensor]:
    (M, _), N = owned_MZ.shape, len(streamed_NZ)
    shares = triton.cdiv(N, per_share)
    largest_SM = torch.empty(shares, M, dtype=torch.float32, device=owned_MZ.device)
    sum_SM = torch.empty_like(largest_SM)
    if M > 0 and N > 0:
        blocks = fit_rows(SWEEP_BLOCKS, TILES, owned_MZ)
        launch(
            sweep_kernel,
            (triton.cdiv(M, blocks.owned), shares),
            owned_MZ,
            streamed_NZ,
            bias_M,
            bias_N,
            largest_SM,
            sum_SM,
            M,
            N,
            owned_MZ.stride(0),
            streamed_NZ.stride(0),
            per_share,
            inverse_temperature,
            BLOCK_M=blocks.owned,
            BLOCK_N=blocks.streamed,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **constants(owned_MZ),
        )
    return largest_SM, sum_SM


def row_normalisers(z_RZ: Tensor, w_KZ: Tensor, log_u_K: Tensor, inverse_temperature: float) -> Tensor:
    """lse_R of z·wᵀ / temperature + log_u."""
    nothing_R = torch.zeros(len(z_RZ), dtype=torch.float32, device=z_RZ.device)
    largest_SR, sum_SR = _sweep(z_RZ, w_KZ, nothing_R, log_u_K, COLUMNS_PER_SHARE, inverse_temperature)
    return (largest_SR + sum_SR.log()).logsumexp(dim=0)


def column_sums(
    z_RZ: Tensor, w_KZ: Tensor, log_u_K: Tensor, lse_R: Tensor, inverse_temperature: float
) -> tuple[Tensor, Tensor]:
    """(largest_NK, sum_NK): the log-sum-exp of every column over each share of the rows."""
    return _sweep(w_KZ, z_RZ, log_u_K, -lse_R, ROWS_PER_SHARE, inverse_temperature)
