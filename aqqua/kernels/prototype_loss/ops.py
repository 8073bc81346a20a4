"""The Triton kernels as torch operators (aqqua::prototype_*), with their gradients, for torch.compile.

Temperatures come as their inverses. Arguments are checked in __init__.py.

Letter key: R rows of a pack, B teacher rows, K prototypes, Z bottleneck width, N partials, G targets.
Test: tests/kernels/test_prototype_loss.py.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op

from aqqua.kernels.prototype_loss import (
    projected_gradients,
    projected_loss,
    projected_sweeps,
    stored_loss,
    stored_sweeps,
)
from aqqua.kernels.registration import operator


@operator("prototype_row_normalisers")
def row_normalisers(logits_RK: Tensor, log_u_K: Tensor, inverse: float) -> Tensor:
    """lse_R of stored logits."""
    return stored_sweeps.row_normalisers(logits_RK, log_u_K, inverse)


@operator("prototype_column_sums")
def column_sums(logits_RK: Tensor, log_u_K: Tensor, lse_R: Tensor, inverse: float) -> tuple[Tensor, Tensor]:
    """Partial column sums of stored logits."""
    return stored_sweeps.column_sums(logits_RK, log_u_K, lse_R, inverse)


@operator("prototype_join")
def join(partial_NK: Tensor, sum_NK: Tensor, largest_K: Tensor) -> Tensor:
    """Whole numbers that add up exactly over ranks."""
    return stored_sweeps.join(partial_NK, sum_NK, largest_K)


@operator("prototype_row_normalisers_projected")
def row_normalisers_projected(z_RZ: Tensor, w_KZ: Tensor, log_u_K: Tensor, inverse: float) -> Tensor:
    """lse_R of logits that are never stored."""
    return projected_sweeps.row_normalisers(z_RZ, w_KZ, log_u_K, inverse)


@operator("prototype_column_sums_projected")
def column_sums_projected(
    z_RZ: Tensor, w_KZ: Tensor, log_u_K: Tensor, lse_R: Tensor, inverse: float
) -> tuple[Tensor, Tensor]:
    """Partial column sums of logits that are never stored."""
    return projected_sweeps.column_sums(z_RZ, w_KZ, log_u_K, lse_R, inverse)


@operator("prototype_loss_stored")
def loss_stored(
    student_RK: Tensor,
    teacher_BK: Tensor,
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_RG: Tensor,
    weight_R: Tensor,
    inverse_student: float,
    inverse_teacher: float,
    crops: int,
    gradient: bool,
) -> tuple[Tensor, Tensor]:
    """loss_R, and the gradient of its sum (empty where it is not wanted now)."""
    R, K = student_RK.shape
    gradient_RK = student_RK.new_empty((R, K) if gradient else (0, K))
    loss_R = stored_loss.cross_entropy(
        student_RK,
        teacher_BK,
        log_u_K,
        lse_B,
        targets_RG,
        weight_R,
        (inverse_student, inverse_teacher),
        crops,
        gradient_RK if gradient else None,
    )
    return loss_R, gradient_RK


@triton_op("aqqua::prototype_loss_stored_", mutates_args=("student_RK",))
def loss_stored_(
    student_RK: Tensor,
    teacher_BK: Tensor,
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_RG: Tensor,
    weight_R: Tensor,
    inverse_student: float,
    inverse_teacher: float,
    crops: int,
) -> Tensor:
    """loss_R; the gradient of its sum takes the place of the student's logits."""
    inverses = (inverse_student, inverse_teacher)
    return stored_loss.cross_entropy(
        student_RK, teacher_BK, log_u_K, lse_B, targets_RG, weight_R, inverses, crops, student_RK
    )


@triton_op("aqqua::prototype_scale_", mutates_args=("gradient_RK",))
def scale_(gradient_RK: Tensor, factor_R: Tensor) -> None:
    """Multiply rows by their factors; a factor of 1 costs nothing."""
    stored_loss.scale_(gradient_RK, factor_R)


@operator("prototype_loss_projected")
def loss_projected(
    student_z_RZ: Tensor,
    student_w_KZ: Tensor,
    teacher_z_BZ: Tensor,
    teacher_w_KZ: Tensor,
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_R: Tensor,
    weight_R: Tensor,
    inverse_student: float,
    inverse_teacher: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """loss_R; and for the gradient the row's largest scaled logit, and mass / sum of exp relative to it."""
    student, teacher = (student_z_RZ, student_w_KZ), (teacher_z_BZ, teacher_w_KZ)
    loss_R, largest_R, sum_R, mass_R = projected_loss.loss_terms(
        student, teacher, log_u_K, lse_B, targets_R, (inverse_student, inverse_teacher)
    )
    return loss_R * weight_R, largest_R, mass_R / sum_R


@operator("prototype_gradients_projected")
def gradients_projected(
    student_z_RZ: Tensor,
    student_w_KZ: Tensor,
    teacher_z_BZ: Tensor,
    teacher_w_KZ: Tensor,
    log_u_K: Tensor,
    lse_B: Tensor,
    targets_R: Tensor,
    largest_R: Tensor,
    scale_R: Tensor,
    factor_R: Tensor,
    inverse_student: float,
    inverse_teacher: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of the student's bottleneck rows and prototypes."""
    student, teacher = (student_z_RZ, student_w_KZ), (teacher_z_BZ, teacher_w_KZ)
    return projected_gradients.gradients(
        student,
        teacher,
        log_u_K,
        lse_B,
        targets_R,
        (largest_R, scale_R),
        factor_R,
        (inverse_student, inverse_teacher),
    )


def _keep_stored(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, inverse_student, inverse_teacher, crops, ctx.made = inputs
    ctx.numbers = (inverse_student, inverse_teacher, crops)
    gradient_RK = output[1]
    ctx.mark_non_differentiable(gradient_RK)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*([gradient_RK] if ctx.made else tensors))


def _stored_backward(ctx: Any, upstream_R: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if upstream_R is None:
        return (None,) * 10
    if ctx.made:
        (gradient_RK,) = ctx.saved_tensors
        # Writing counts as a change of what was saved, so a second backward pass is an error, as it must be.
        scale_(gradient_RK, upstream_R.contiguous())
    else:
        *tensors, weight_R = ctx.saved_tensors
        _, gradient_RK = loss_stored(*tensors, weight_R * upstream_R, *ctx.numbers, True)
    return gradient_RK, *(None,) * 9


loss_stored.register_autograd(_stored_backward, setup_context=_keep_stored)


class _InPlace(torch.autograd.Function):
    """`loss_stored_` with its gradient. An operator that overwrites an input cannot register one."""

    @staticmethod
    def forward(ctx: Any, student_RK: Tensor, *others: Any) -> Tensor:
        ctx.gradient_RK = student_RK.detach()
        return loss_stored_(ctx.gradient_RK, *others)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradient_RK, ctx.gradient_RK = ctx.gradient_RK, None
        if gradient_RK is None:
            raise RuntimeError(
                "prototype_loss: gradient='in_place' allows one backward pass, got a second; use 'backward'"
            )
        scale_(gradient_RK, grads[0].contiguous())
        return gradient_RK, *(None,) * 8


def loss_in_place(student_RK: Tensor, *others: Any) -> Tensor:
    """As `loss_stored_`, with autograd."""
    loss_R: Tensor = _InPlace.apply(student_RK, *others)
    return loss_R


def _keep_projected(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, inverse_student, inverse_teacher = inputs
    ctx.inverses = (inverse_student, inverse_teacher)
    _, largest_R, scale_R = output
    ctx.mark_non_differentiable(largest_R, scale_R)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, largest_R, scale_R)


def _projected_backward(ctx: Any, upstream_R: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if upstream_R is None:
        return (None,) * 10
    *tensors, weight_R, largest_R, scale_R = ctx.saved_tensors
    factor_R = weight_R * upstream_R * ctx.inverses[0]
    dz_RZ, dw_KZ = gradients_projected(*tensors, largest_R, scale_R, factor_R, *ctx.inverses)
    return dz_RZ, dw_KZ, *(None,) * 8


loss_projected.register_autograd(_projected_backward, setup_context=_keep_projected)
