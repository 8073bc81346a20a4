"""Gradients of the cross-entropy without stored logits: the Triton kernels and their launches.

- `rows_gradient_kernel`: of the student's bottleneck rows, one share of the prototypes each; the shares
  are added in a fixed order.
- `prototypes_gradient_kernel`: of the student's prototypes; a program owns its prototypes and goes over
  all rows, so nothing has to be added up.

Both make the logits again. d = factor · (mass · softmax - target) enters a product in the operands' type:
factor is at most 1, and d is raised by 2**14 there, so that float16 (6e-8 to 65 504) does not lose it.

Dimension key:  R student rows, B teacher rows, K prototypes, Z bottleneck width, S shares of the prototypes.
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

from aqqua.kernels.prototype_loss.projected_loss import probability
from aqqua.kernels.prototype_loss.projected_tiles import (
    Blocks,
    Tiles,
    constants,
    dot,
    fit_rows,
    load_rows,
    logits,
)
from aqqua.kernels.prototype_loss.stored_loss import target_rows
from aqqua.kernels.registration import launch

# Best first, the first that fits serves; guesses, as no GPU was at hand. Prototypes streamed past 128 rows
# ask half as much of L2 as past 64, whose 8 TB/s at full speed no H200 has.
GRADIENT_BLOCKS = (
    Blocks(owned=128, streamed=32, warps=8, stages=2),
    Blocks(owned=64, streamed=32, warps=8, stages=2),
    Blocks(owned=64, streamed=16, warps=8, stages=2),
    Blocks(owned=32, streamed=16, warps=8, stages=2),
)
# Shares of the prototypes: a fixed number, so that the bits do not depend on the GPU's size.
COLUMNS_PER_SHARE = 8192
# Of student and teacher the one side stays, rows or prototypes, and the other passes by.
TILES = Tiles(owned=2, streamed=2, reused=True)

_RAISE = tl.constexpr(2.0**14)


@triton.jit
@no_type_check
def _store_gradient(ptr, o_row, m_row, b_d, FIRST: tl.constexpr, WIDTH: tl.constexpr, Z: tl.constexpr):
    o_z = FIRST + tl.arange(0, WIDTH)
    p_out = ptr + o_row.to(tl.int64)[:, None] * Z + o_z[None, :]
    tl.store(p_out, b_d.to(ptr.dtype.element_ty), mask=m_row[:, None] & (o_z < Z)[None, :])


@triton.jit
@no_type_check
def rows_gradient_kernel(
    student_z_ptr,
    student_w_ptr,
    teacher_z_ptr,
    teacher_w_ptr,
    log_u_ptr,
    lse_ptr,
    targets_ptr,
    largest_ptr,
    scale_ptr,
    factor_ptr,
    peak_ptr,
    gradient_ptr,
    R,
    K,
    stride_student_z,
    stride_student_w,
    stride_teacher_z,
    stride_teacher_w,
    per_share,
    inverse_student,
    inverse_teacher,
    Z: tl.constexpr,
    Z0: tl.constexpr,
    Z1: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program: BLOCK_R rows, one share of the prototypes."""
    o_r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    m_r = o_r < R
    first = tl.program_id(1) * per_share
    last = tl.minimum(first + per_share, K)
    o_b, b_lse = target_rows(targets_ptr, lse_ptr, o_r, m_r)
    b_s = load_rows(student_z_ptr, o_r, m_r, stride_student_z, Z, Z0, Z1)
    b_t = load_rows(teacher_z_ptr, o_b, o_b >= 0, stride_teacher_z, Z, Z0, Z1)
    b_largest = tl.load(largest_ptr + o_r, mask=m_r, other=0.0)
    b_scale = tl.load(scale_ptr + o_r, mask=m_r, other=0.0)
    b_factor = tl.load(factor_ptr + o_r, mask=m_r, other=0.0) * _RAISE

    b_dz_0 = tl.zeros([BLOCK_R, Z0], tl.float32)
    b_dz_1 = tl.zeros([BLOCK_R, Z1 if Z1 > 0 else 1], tl.float32)
    for start in range(first, last, BLOCK_K):
        o_k = start + tl.arange(0, BLOCK_K)
        m_k = o_k < last
        w_t = load_rows(teacher_w_ptr, o_k, m_k, stride_teacher_w, Z, Z0, Z1)
        b_u = tl.load(log_u_ptr + o_k, mask=m_k, other=0.0)
        b_p = logits(b_t, w_t, BLOCK_R, BLOCK_K, Z1, UPCAST)
        b_p = probability(b_p, -b_lse, b_u, (o_b >= 0)[:, None] & m_k[None, :], inverse_teacher)
        w_s = load_rows(student_w_ptr, o_k, m_k, stride_student_w, Z, Z0, Z1)
        b_x = logits(b_s, w_s, BLOCK_R, BLOCK_K, Z1, UPCAST) * inverse_student
        b_d = (tl.exp(b_x - b_largest[:, None]) * b_scale[:, None] - b_p) * b_factor[:, None]
        b_d = tl.where(m_r[:, None] & m_k[None, :], b_d, 0.0).to(student_w_ptr.dtype.element_ty)
        b_dz_0 = dot(b_d, w_s[0], b_dz_0, UPCAST)
        if Z1 > 0:
            b_dz_1 = dot(b_d, w_s[1], b_dz_1, UPCAST)
    b_unit = tl.load(peak_ptr) / _RAISE
    p_out = gradient_ptr + tl.program_id(1).to(tl.int64) * R * Z
    _store_gradient(p_out, o_r, m_r, b_dz_0 * b_unit, 0, Z0, Z)
    if Z1 > 0:
        _store_gradient(p_out, o_r, m_r, b_dz_1 * b_unit, Z0, Z1, Z)


@triton.jit
@no_type_check
def prototypes_gradient_kernel(
    student_z_ptr,
    student_w_ptr,
    teacher_z_ptr,
    teacher_w_ptr,
    log_u_ptr,
    lse_ptr,
    targets_ptr,
    largest_ptr,
    scale_ptr,
    factor_ptr,
    peak_ptr,
    gradient_ptr,
    R,
    K,
    stride_student_z,
    stride_student_w,
    stride_teacher_z,
    stride_teacher_w,
    inverse_student,
    inverse_teacher,
    Z: tl.constexpr,
    Z0: tl.constexpr,
    Z1: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program: BLOCK_K prototypes, all rows. Tiles are [prototypes, rows], so d needs no transpose."""
    o_k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    m_k = o_k < K
    w_s = load_rows(student_w_ptr, o_k, m_k, stride_student_w, Z, Z0, Z1)
    w_t = load_rows(teacher_w_ptr, o_k, m_k, stride_teacher_w, Z, Z0, Z1)
    b_u = tl.load(log_u_ptr + o_k, mask=m_k, other=0.0)

    b_dw_0 = tl.zeros([BLOCK_K, Z0], tl.float32)
    b_dw_1 = tl.zeros([BLOCK_K, Z1 if Z1 > 0 else 1], tl.float32)
    for start in range(0, R, BLOCK_R):
        o_r = start + tl.arange(0, BLOCK_R)
        m_r = o_r < R
        o_b, b_lse = target_rows(targets_ptr, lse_ptr, o_r, m_r)
        b_t = load_rows(teacher_z_ptr, o_b, o_b >= 0, stride_teacher_z, Z, Z0, Z1)
        b_p = logits(w_t, b_t, BLOCK_K, BLOCK_R, Z1, UPCAST)
        b_p = probability(b_p, b_u, -b_lse, m_k[:, None] & (o_b >= 0)[None, :], inverse_teacher)
        b_s = load_rows(student_z_ptr, o_r, m_r, stride_student_z, Z, Z0, Z1)
        b_largest = tl.load(largest_ptr + o_r, mask=m_r, other=0.0)
        b_scale = tl.load(scale_ptr + o_r, mask=m_r, other=0.0)
        b_factor = tl.load(factor_ptr + o_r, mask=m_r, other=0.0) * _RAISE
        b_x = logits(w_s, b_s, BLOCK_K, BLOCK_R, Z1, UPCAST) * inverse_student
        b_d = (tl.exp(b_x - b_largest[None, :]) * b_scale[None, :] - b_p) * b_factor[None, :]
        b_d = tl.where(m_k[:, None] & m_r[None, :], b_d, 0.0).to(student_z_ptr.dtype.element_ty)
        b_dw_0 = dot(b_d, b_s[0], b_dw_0, UPCAST)
        if Z1 > 0:
            b_dw_1 = dot(b_d, b_s[1], b_dw_1, UPCAST)
    b_unit = tl.load(peak_ptr) / _RAISE
    _store_gradient(gradient_ptr, o_k, m_k, b_dw_0 * b_unit, 0, Z0, Z)
    if Z1 > 0:
        _store_gradient(gradient_ptr, o_k, m_k, b_dw_1 * b_unit, Z0, Z1, Z)


def gradients(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_R: Tensor,
    softmax_R: tuple[Tensor, Tensor],
    factor_R: Tensor,
    inverse_temperatures: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """(dz_RZ, dw_KZ) of the student, in its types.

    Args:
        student, teacher: bottleneck rows [R or B, Z] and prototypes [K, Z].
        softmax_R: largest_R, and mass_R / sum_R: mass · softmax is exp(x - largest) times the second.
        factor_R: what multiplies (mass · softmax - target) @ prototypes.
    """
    z_RZ, w_KZ = student
    if len(z_RZ) == 0:
        return torch.zeros_like(z_RZ), torch.zeros_like(w_KZ)
    peak = factor_R.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    matrices = (*student, *teacher)
    read = (*matrices, log_u_K, lse_B, targets_R, *softmax_R, factor_R / peak, peak)
    sizes = (len(z_RZ), len(w_KZ), *(x.stride(0) for x in matrices))
    return (
        _rows_gradient(student, read, sizes, inverse_temperatures),
        _prototypes_gradient(student, read, sizes, inverse_temperatures),
    )


def _rows_gradient(
    student: tuple[Tensor, Tensor],
    read: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    inverses: tuple[float, float],
) -> Tensor:
    z_RZ, w_KZ = student
    (R, Z), shares = z_RZ.shape, triton.cdiv(len(w_KZ), COLUMNS_PER_SHARE)
    blocks = fit_rows(GRADIENT_BLOCKS, TILES, z_RZ)
    dz_SRZ = torch.empty(shares, R, Z, dtype=torch.float32, device=z_RZ.device)
    launch(
        rows_gradient_kernel,
        (triton.cdiv(R, blocks.owned), shares),
        *read,
        dz_SRZ,
        *sizes,
        COLUMNS_PER_SHARE,
        *inverses,
        BLOCK_R=blocks.owned,
        BLOCK_K=blocks.streamed,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
        **constants(z_RZ),
    )
    return dz_SRZ.sum(dim=0).to(z_RZ.dtype)


def _prototypes_gradient(
    student: tuple[Tensor, Tensor],
    read: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    inverses: tuple[float, float],
) -> Tensor:
    z_RZ, w_KZ = student
    blocks = fit_rows(GRADIENT_BLOCKS, TILES, z_RZ)
    dw_KZ = torch.empty(w_KZ.shape, dtype=w_KZ.dtype, device=w_KZ.device)
    launch(
        prototypes_gradient_kernel,
        (triton.cdiv(len(w_KZ), blocks.owned),),
        *read,
        dw_KZ,
        *sizes,
        *inverses,
        BLOCK_R=blocks.streamed,
        BLOCK_K=blocks.owned,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
        **constants(z_RZ),
    )
    return dw_KZ
