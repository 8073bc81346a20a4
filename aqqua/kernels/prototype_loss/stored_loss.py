"""Cross-entropy of stored student logits against stored teacher logits: the Triton kernels, their launches.

- `cross_entropy_kernel`, two reads of student and teacher and one write: the first loop finds the
  student's normaliser and the loss, the second writes the gradient, from the last tile back to the
  first, as the tiles read last are the likeliest to be in L2 still.
- `scale_kernel`: multiplies a gradient by its upstream factor, and returns at once where that is 1.

A program owns whole rows, so every run gives the same bits, and the gradient may replace the logits.

Dimension key:  R student rows, B teacher rows, K prototypes, G targets of a row (1 or 2).
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

from aqqua.kernels.prototype_loss.tile import Tile
from aqqua.kernels.registration import launch

# Guesses (no GPU was at hand): several rows share log_u, and 16 elements per thread and operand.
MANY_ROWS_TILE = Tile(rows=4, columns=1024, warps=8)
# Fewer rows than this would leave some of the 132 SMs of an H200 without a program.
FEW_ROWS = 1024
FEW_ROWS_TILE = Tile(rows=1, columns=2048, warps=8)
SCALE_TILE = Tile(rows=1, columns=4096, warps=4)

# Smaller than any logit, and finite, so that (it - it) is 0 and not NaN.
_LOWEST = tl.constexpr(-3.0e38)


@triton.jit
@no_type_check
def _rows_of_program(R, crops, BLOCK_R: tl.constexpr):
    """Rows lie crop by crop; a program takes crops of the same image, as they share teacher rows."""
    o_at = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    return (o_at % crops) * (R // crops) + o_at // crops, o_at < R


@triton.jit
@no_type_check
def target_rows(targets_ptr, lse_ptr, o_at, mask):
    """The teacher rows at some places of the table (-1: none), with their normalisers."""
    o_b = tl.load(targets_ptr + o_at, mask=mask, other=-1)
    return o_b, tl.load(lse_ptr + o_b, mask=o_b >= 0, other=0.0)


@triton.jit
@no_type_check
def _probabilities(teacher_ptr, o_b, b_lse, b_u, o_k, m_k, stride, inverse_temperature):
    """The teacher's probabilities of one tile; 0 for a row without this target and beyond K."""
    m_bk = (o_b >= 0)[:, None] & m_k[None, :]
    b_t = tl.load(teacher_ptr + o_b.to(tl.int64)[:, None] * stride + o_k[None, :], mask=m_bk, other=0.0)
    b_x = b_t.to(tl.float32) * inverse_temperature + b_u[None, :] - b_lse[:, None]
    return tl.where(m_bk, tl.exp(b_x), 0.0)


@triton.jit
@no_type_check
def _tile(student_ptr, teacher_ptr, log_u_ptr, o_row, m_r, rows, o_k, K, stride, inverses, G: tl.constexpr):
    """One tile of scaled student logits (_LOWEST beyond K) and the sum of their targets."""
    o_a, b_lse_a, o_b, b_lse_b = rows
    inverse_student, inverse_teacher = inverses
    m_k = o_k < K
    b_s = tl.load(student_ptr + o_row + o_k[None, :], mask=m_r[:, None] & m_k[None, :], other=0.0)
    b_x = tl.where(m_k[None, :], b_s.to(tl.float32) * inverse_student, _LOWEST)
    b_u = tl.load(log_u_ptr + o_k, mask=m_k, other=0.0)
    b_p = _probabilities(teacher_ptr, o_a, b_lse_a, b_u, o_k, m_k, stride, inverse_teacher)
    if G == 2:
        b_p += _probabilities(teacher_ptr, o_b, b_lse_b, b_u, o_k, m_k, stride, inverse_teacher)
    return b_x, b_p


@triton.jit
@no_type_check
def cross_entropy_kernel(
    student_ptr,
    teacher_ptr,
    log_u_ptr,
    lse_ptr,
    targets_ptr,
    weight_ptr,
    loss_ptr,
    gradient_ptr,
    R,
    K,
    crops,
    stride_student,
    stride_teacher,
    stride_gradient,
    inverse_student,
    inverse_teacher,
    G: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program: BLOCK_R student rows, all columns."""
    o_r, m_r = _rows_of_program(R, crops, BLOCK_R)
    o_row = o_r.to(tl.int64)[:, None]
    o_a, b_lse_a = target_rows(targets_ptr, lse_ptr, o_r * G, m_r)
    o_b, b_lse_b = target_rows(targets_ptr, lse_ptr, o_r * G + (G - 1), m_r & (G == 2))
    rows = (o_a, b_lse_a, o_b, b_lse_b)
    inverses = (inverse_student, inverse_teacher)
    o_s = o_row * stride_student
    b_largest = tl.full([BLOCK_R], _LOWEST, tl.float32)
    b_sum = tl.zeros([BLOCK_R], tl.float32)
    b_mass = tl.zeros([BLOCK_R], tl.float32)
    b_cross = tl.zeros([BLOCK_R], tl.float32)  # sum of target · (logit - largest): nothing cancels
    for start in range(0, K, BLOCK_K):
        o_k = start + tl.arange(0, BLOCK_K)
        b_x, b_p = _tile(
            student_ptr, teacher_ptr, log_u_ptr, o_s, m_r, rows, o_k, K, stride_teacher, inverses, G
        )
        b_new = tl.maximum(b_largest, tl.max(b_x, axis=1))
        b_x -= b_new[:, None]
        b_sum = b_sum * tl.exp(b_largest - b_new) + tl.sum(tl.exp(b_x), axis=1)
        b_cross += b_mass * (b_largest - b_new) + tl.sum(b_p * b_x, axis=1)
        b_mass += tl.sum(b_p, axis=1)
        b_largest = b_new
    b_weight = tl.load(weight_ptr + o_r, mask=m_r, other=0.0)
    tl.store(loss_ptr + o_r, b_weight * (b_mass * tl.log(b_sum) - b_cross), mask=m_r)
    if GRADIENT:
        # weight · (mass · softmax - target) / temperature; a tile is read before it is written.
        tiles = tl.cdiv(K, BLOCK_K)
        for i in range(tiles):
            o_k = (tiles - 1 - i) * BLOCK_K + tl.arange(0, BLOCK_K)
            b_x, b_p = _tile(
                student_ptr, teacher_ptr, log_u_ptr, o_s, m_r, rows, o_k, K, stride_teacher, inverses, G
            )
            b_softmax = tl.exp(b_x - b_largest[:, None]) * (b_mass / b_sum)[:, None]
            b_g = (b_softmax - b_p) * (b_weight * inverse_student)[:, None]
            p_g = gradient_ptr + o_row * stride_gradient + o_k[None, :]
            tl.store(p_g, b_g.to(gradient_ptr.dtype.element_ty), mask=m_r[:, None] & (o_k < K)[None, :])


@triton.jit
@no_type_check
def scale_kernel(gradient_ptr, factor_ptr, K, stride, BLOCK_K: tl.constexpr):
    """One program: one row. In training the factor is 1 and nothing is read."""
    row = tl.program_id(0).to(tl.int64)
    b_factor = tl.load(factor_ptr + row)
    if b_factor != 1.0:
        for start in range(0, K, BLOCK_K):
            o_k = start + tl.arange(0, BLOCK_K)
            p_g = gradient_ptr + row * stride + o_k
            b_g = tl.load(p_g, mask=o_k < K, other=0.0)
            tl.store(p_g, (b_g.to(tl.float32) * b_factor).to(b_g.dtype), mask=o_k < K)


def cross_entropy(
    student_RK: Tensor,
    teacher_BK: Tensor,
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_RG: Tensor,
    weight_R: Tensor,
    inverse_temperatures: tuple[float, float],
    crops: int,
    gradient_RK: Tensor | None,
) -> Tensor:
    """loss_R, weighted; the gradient of its sum is written to gradient_RK, which may be student_RK."""
    R, K = student_RK.shape
    tile = FEW_ROWS_TILE if R < FEW_ROWS else MANY_ROWS_TILE
    loss_R = torch.empty(R, dtype=torch.float32, device=student_RK.device)
    written = student_RK if gradient_RK is None else gradient_RK
    if R > 0:
        launch(
            cross_entropy_kernel,
            (triton.cdiv(R, tile.rows),),
            student_RK,
            teacher_BK,
            log_u_K,
            lse_B,
            targets_RG,
            weight_R,
            loss_R,
            written,
            R,
            K,
            crops,
            student_RK.stride(0),
            teacher_BK.stride(0),
            written.stride(0),
            *inverse_temperatures,
            G=targets_RG.shape[1],
            GRADIENT=gradient_RK is not None,
            BLOCK_R=tile.rows,
            BLOCK_K=tile.columns,
            num_warps=tile.warps,
        )
    return loss_R


def scale_(gradient_RK: Tensor, factor_R: Tensor) -> None:
    """Multiply every row by its factor, in place."""
    R, K = gradient_RK.shape
    if R > 0:
        launch(
            scale_kernel,
            (R,),
            gradient_RK,
            factor_R,
            K,
            gradient_RK.stride(0),
            BLOCK_K=SCALE_TILE.columns,
            num_warps=SCALE_TILE.warps,
        )
