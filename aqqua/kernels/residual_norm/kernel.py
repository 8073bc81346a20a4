"""Residual + LayerScale + stochastic depth + LayerNorm: the Triton kernels.

One pass over the stream in each direction, whole rows in registers. Bytes per token, with a float32
residual stream and bf16 branches (in brackets all bf16), all rows kept:

    forward   read x 4 (2), branch 2 (2); write y 4 (2), z 2 (2)                      12·D (8·D)
    backward  read dy 4 (2), dz 2 (2), y 4 (2), branch 2 (2); write dx 4 (2), dbranch 2 (2)   18·D (12·D)

The branch is read again in the backward pass for the gradient of gamma; all other state is y, which the
next residual reads anyway, and 8 bytes per row for mean and 1/σ. A dropped view costs its x and y only: its
branch and z rows do not exist. At some 20 FLOPs per element read the matrix units have nothing to do; the
arrangement serves the memory system: 16 elements per thread and tensor, several rows in flight in a
program, and the vectors of width D loaded once for all its rows. A thread holds VECTOR neighbouring columns
of each row, 16 bytes of the stream; said to the compiler, because left alone it gives bf16 branches twice
as many as the float32 stream and then sends every tile through shared memory to re-deal it. With a row
across all threads of a program, sums over rows stay inside a thread.

The gradients of gamma, weight and bias are sums over rows. Each program of the backward pass adds its own
rows in registers and writes one row of partials, which are then summed in order: no atomics, so every run
gives the same bits.

Dimension key:  T tokens in the pack, D width, U rows of the branch, W rows of the next norm.
Names:          o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_residual_norm.py.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def places(position_ptr, o_t, m_t, TABLE: tl.constexpr):
    """Row of each token in a re-packed tensor and whether it is there; without a table, its own row."""
    if TABLE:
        o_u = tl.load(position_ptr + o_t, mask=m_t, other=-1).to(tl.int64)
        m_u = o_u >= 0
    else:
        o_u = o_t
        m_u = m_t
    return o_u, m_u


@triton.jit
@no_type_check
def forward_kernel(
    x_ptr, branch_ptr, gamma_ptr, position_ptr, weight_ptr, bias_ptr, next_ptr,
    y_ptr, z_ptr, mean_ptr, rstd_ptr,
    T, gain, eps,
    D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr, VECTOR: tl.constexpr,
    BRANCH: tl.constexpr, TABLE: tl.constexpr, NEXT_TABLE: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows. y = x + gain · gamma · branch (with BRANCH); z = LayerNorm(y)."""
    o_t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # int64: T · D passes 2**31
    o_d = tl.max_contiguous(tl.arange(0, BLOCK_D), VECTOR)
    m_t = o_t < T
    m_d = o_d < D
    m_td = m_t[:, None] & m_d[None, :]
    o_td = o_t[:, None] * D + o_d[None, :]
    b_y = tl.load(x_ptr + o_td, mask=m_td, other=0.0).to(tl.float32)
    if BRANCH:
        o_u, m_u = places(position_ptr, o_t, m_t, TABLE)
        o_ud = o_u[:, None] * D + o_d[None, :]
        b_branch = tl.load(branch_ptr + o_ud, mask=m_u[:, None] & m_d[None, :], other=0.0).to(tl.float32)
        b_gamma = tl.load(gamma_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
        # Normed is what the stream holds after rounding: the backward pass sees nothing else.
        b_rounded = (b_y + (gain * b_gamma)[None, :] * b_branch).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + o_td, b_rounded, mask=m_td)
        b_y = b_rounded.to(tl.float32)

    b_mean = tl.sum(b_y, axis=1) / D
    b_centred = tl.where(m_td, b_y - b_mean[:, None], 0.0)
    b_rstd = 1.0 / tl.sqrt(tl.sum(b_centred * b_centred, axis=1) / D + eps)
    tl.store(mean_ptr + o_t, b_mean, mask=m_t)
    tl.store(rstd_ptr + o_t, b_rstd, mask=m_t)
    b_weight = tl.load(weight_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_bias = tl.load(bias_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_z = b_centred * b_rstd[:, None] * b_weight[None, :] + b_bias[None, :]
    o_w, m_w = places(next_ptr, o_t, m_t, NEXT_TABLE)
    tl.store(z_ptr + o_w[:, None] * D + o_d[None, :], b_z, mask=m_w[:, None] & m_d[None, :])


@triton.jit
@no_type_check
def backward_kernel(
    dy_ptr, dz_ptr, y_ptr, mean_ptr, rstd_ptr, branch_ptr, gamma_ptr, position_ptr, weight_ptr, next_ptr,
    dx_ptr, dbranch_ptr, partial_ptr,
    T, gain,
    D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr, VECTOR: tl.constexpr,
    BRANCH: tl.constexpr, STREAM: tl.constexpr, TABLE: tl.constexpr, NEXT_TABLE: tl.constexpr,
):  # fmt: skip
    """One program: every num_programs-th tile of ROWS rows, and its sums for the three parameters.

    In one piece, so that the order of loads and sums can be seen. With STREAM, dy is the gradient that comes
    down the residual stream. partial_ptr is [programs, 3, D]: weight, bias, gamma.
    """
    o_d = tl.max_contiguous(tl.arange(0, BLOCK_D), VECTOR)
    m_d = o_d < D
    b_weight = tl.load(weight_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_dweight = tl.zeros([BLOCK_D], dtype=tl.float32)
    b_dbias = tl.zeros([BLOCK_D], dtype=tl.float32)
    b_dgamma = tl.zeros([BLOCK_D], dtype=tl.float32)
    if BRANCH:
        b_gamma = gain * tl.load(gamma_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(T, ROWS), tl.num_programs(0)):
        o_t = tl.arange(0, ROWS).to(tl.int64) + tile * ROWS
        m_t = o_t < T
        m_td = m_t[:, None] & m_d[None, :]
        o_td = o_t[:, None] * D + o_d[None, :]
        o_w, m_w = places(next_ptr, o_t, m_t, NEXT_TABLE)
        m_wd = m_w[:, None] & m_d[None, :]
        b_dz = tl.load(dz_ptr + o_w[:, None] * D + o_d[None, :], mask=m_wd, other=0.0).to(tl.float32)
        b_y = tl.load(y_ptr + o_td, mask=m_wd, other=0.0).to(tl.float32)
        b_mean = tl.load(mean_ptr + o_t, mask=m_w, other=0.0)
        b_rstd = tl.load(rstd_ptr + o_t, mask=m_w, other=0.0)
        # Every load stands before the first sum over a row, which is a barrier that none would pass.
        if STREAM:
            b_dy = tl.load(dy_ptr + o_td, mask=m_td, other=0.0).to(tl.float32)
        if BRANCH:
            o_u, m_u = places(position_ptr, o_t, m_t, TABLE)
            o_ud = o_u[:, None] * D + o_d[None, :]
            m_ud = m_u[:, None] & m_d[None, :]
            b_branch = tl.load(branch_ptr + o_ud, mask=m_ud, other=0.0).to(tl.float32)
        b_hat = (b_y - b_mean[:, None]) * b_rstd[:, None]
        b_dhat = b_dz * b_weight[None, :]
        b_dweight += tl.sum(b_dz * b_hat, axis=0)
        b_dbias += tl.sum(b_dz, axis=0)
        b_along = tl.sum(b_dhat * b_hat, axis=1) / D
        b_level = tl.sum(b_dhat, axis=1) / D
        b_dx = (b_dhat - b_along[:, None] * b_hat - b_level[:, None]) * b_rstd[:, None]
        if STREAM:
            b_dx += b_dy
        tl.store(dx_ptr + o_td, b_dx, mask=m_td)
        if BRANCH:
            b_dgamma += tl.sum(b_dx * b_branch, axis=0)
            tl.store(dbranch_ptr + o_ud, b_dx * b_gamma[None, :], mask=m_ud)

    o_p = partial_ptr + tl.program_id(0) * 3 * D + o_d
    tl.store(o_p, b_dweight, mask=m_d)
    tl.store(o_p + D, b_dbias, mask=m_d)
    tl.store(o_p + 2 * D, b_dgamma * gain, mask=m_d)
