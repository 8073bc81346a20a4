"""Cross-entropy without stored logits: the Triton kernel of the loss and its launch.

Student and teacher logits are made again tile by tile from the bottleneck rows and the prototypes: 2
products, and four numbers per row and share of the prototypes are written.

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

from aqqua.kernels.prototype_loss.projected_tiles import Blocks, Tiles, constants, fit_rows, load_rows, logits
from aqqua.kernels.prototype_loss.stored_loss import target_rows
from aqqua.kernels.registration import launch

# Best first, the first that fits serves; guesses, as no GPU was at hand.
TERMS_BLOCKS = (
    Blocks(owned=128, streamed=32, warps=8, stages=2),
    Blocks(owned=64, streamed=32, warps=4, stages=2),
    Blocks(owned=64, streamed=16, warps=4, stages=2),
    Blocks(owned=32, streamed=16, warps=4, stages=2),
)
# Shares of the prototypes: a fixed number, so that the bits do not depend on the GPU's size.
COLUMNS_PER_SHARE = 8192
# Student and teacher rows stay, prototypes of both pass by.
TILES = Tiles(owned=2, streamed=2, reused=False)

# Smaller than any logit, and finite, so that (it - it) is 0 and not NaN.
_LOWEST = tl.constexpr(-3.0e38)


@triton.jit
@no_type_check
def probability(b_logits, b_bias_m, b_bias_n, mask, inverse_temperature):
    """The teacher's probabilities of one tile, 0 outside the mask; the biases are log_u and -lse."""
    b_x = b_logits * inverse_temperature + b_bias_m[:, None] + b_bias_n[None, :]
    return tl.where(mask, tl.exp(b_x), 0.0)


@triton.jit
@no_type_check
def terms_kernel(
    student_z_ptr,
    student_w_ptr,
    teacher_z_ptr,
    teacher_w_ptr,
    log_u_ptr,
    lse_ptr,
    targets_ptr,
    terms_ptr,
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
    """One program: BLOCK_R rows, one share of the prototypes. Writes largest, sum, mass, cross."""
    o_r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    m_r = o_r < R
    first = tl.program_id(1) * per_share
    last = tl.minimum(first + per_share, K)
    o_b, b_lse = target_rows(targets_ptr, lse_ptr, o_r, m_r)
    b_s = load_rows(student_z_ptr, o_r, m_r, stride_student_z, Z, Z0, Z1)
    b_t = load_rows(teacher_z_ptr, o_b, o_b >= 0, stride_teacher_z, Z, Z0, Z1)

    b_largest = tl.full([BLOCK_R], _LOWEST, tl.float32)
    b_sum = tl.zeros([BLOCK_R], tl.float32)
    b_mass = tl.zeros([BLOCK_R], tl.float32)
    b_cross = tl.zeros([BLOCK_R], tl.float32)  # sum of target · (logit - largest): nothing cancels
    for start in range(first, last, BLOCK_K):
        o_k = start + tl.arange(0, BLOCK_K)
        m_k = o_k < last
        w_s = load_rows(student_w_ptr, o_k, m_k, stride_student_w, Z, Z0, Z1)
        w_t = load_rows(teacher_w_ptr, o_k, m_k, stride_teacher_w, Z, Z0, Z1)
        b_u = tl.load(log_u_ptr + o_k, mask=m_k, other=0.0)
        b_x = logits(b_s, w_s, BLOCK_R, BLOCK_K, Z1, UPCAST) * inverse_student
        b_x = tl.where(m_k[None, :], b_x, _LOWEST)
        b_p = logits(b_t, w_t, BLOCK_R, BLOCK_K, Z1, UPCAST)
        b_p = probability(b_p, -b_lse, b_u, (o_b >= 0)[:, None] & m_k[None, :], inverse_teacher)
        b_new = tl.maximum(b_largest, tl.max(b_x, axis=1))
        b_x -= b_new[:, None]
        b_sum = b_sum * tl.exp(b_largest - b_new) + tl.sum(tl.exp(b_x), axis=1)
        b_cross += b_mass * (b_largest - b_new) + tl.sum(b_p * b_x, axis=1)
        b_mass += tl.sum(b_p, axis=1)
        b_largest = b_new
    p_out = terms_ptr + tl.program_id(1).to(tl.int64) * R + o_r
    step = tl.num_programs(1).to(tl.int64) * R
    tl.store(p_out, b_largest, mask=m_r)
    tl.store(p_out + step, b_sum, mask=m_r)
    tl.store(p_out + 2 * step, b_mass, mask=m_r)
    tl.store(p_out + 3 * step, b_cross, mask=m_r)


def loss_terms(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_R: Tensor,
    inverse_temperatures: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss_R unweighted, largest_R, sum_R, mass_R): the student's softmax is exp(x - largest) / sum.

    Args:
        student, teacher: bottleneck rows [R or B, Z] and prototypes [K, Z].
    """
    (student_z_RZ, student_w_KZ), (teacher_z_BZ, teacher_w_KZ) = student, teacher
    R, K = len(student_z_RZ), len(student_w_KZ)
    shares = triton.cdiv(K, COLUMNS_PER_SHARE)
    terms = torch.empty(4, shares, R, dtype=torch.float32, device=student_z_RZ.device)
    if R > 0:
        blocks = fit_rows(TERMS_BLOCKS, TILES, student_z_RZ)
        launch(
            terms_kernel,
            (triton.cdiv(R, blocks.owned), shares),
            student_z_RZ,
            student_w_KZ,
            teacher_z_BZ,
            teacher_w_KZ,
            log_u_K,
            lse_B,
            targets_R,
            terms,
            R,
            K,
            student_z_RZ.stride(0),
            student_w_KZ.stride(0),
            teacher_z_BZ.stride(0),
            teacher_w_KZ.stride(0),
            COLUMNS_PER_SHARE,
            *inverse_temperatures,
            BLOCK_R=blocks.owned,
            BLOCK_K=blocks.streamed,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **constants(student_z_RZ),
        )
    return _joined(terms)


def _joined(terms: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `loss_terms` returns, of the four terms of every share."""
    largest_SR, sum_SR, mass_SR, cross_SR = terms
    largest_R = largest_SR.amax(dim=0)
    sum_R = (sum_SR * (largest_SR - largest_R).exp()).sum(dim=0)
    mass_R = mass_SR.sum(dim=0)
    cross_R = (cross_SR + mass_SR * (largest_SR - largest_R)).sum(dim=0)
    return mass_R * sum_R.log() - cross_R, largest_R, sum_R, mass_R
