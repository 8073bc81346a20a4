"""Teacher and student over the prototypes: targets, DINO and iBOT, by the implementation that serves.

- reference: sinkhorn.py, dino.py and ibot.py, in plain PyTorch; probabilities are float32 arrays [R, K].
- triton: the kernels of aqqua.kernels.prototype_loss on stored logits, no probability in memory; the
  gradient takes the place of the student's logits.
- recompute: the same kernels, which make the logits anew in every pass from bottleneck rows and prototypes;
  none is ever stored. For packs and prototypes whose logits do not fit.

All give the same numbers within the rounding of float32, and each the same bits for every distribution of
the packs over ranks. Letter key: R rows, B teacher rows, M masked tokens, K prototypes, D width.
Test: tests/objective/test_prototypes.py.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.choice import choose
from aqqua.kernels.prototype_loss import (
    Projected,
    Rows,
    Teacher,
    balance,
    dino_targets,
    ibot_targets,
    prototype_loss,
    row_normalisers,
    stored,
    tensors,
)
from aqqua.model.heads import PrototypeHead
from aqqua.objective.dino import dino_loss
from aqqua.objective.ibot import ibot_loss
from aqqua.objective.sinkhorn import AllReduce, Assignment, alone, sinkhorn

LossKernels = Literal["auto", "triton", "recompute", "reference"]
GLOBALS = 2


def backend_of(wanted: LossKernels) -> str:
    """The name of a kernel's backend: to recompute is a way of using triton's."""
    return "triton" if wanted == "recompute" else wanted


def served(wanted: LossKernels, device: torch.device, dtype: torch.dtype) -> str:
    """'triton' or 'reference': who serves for logits of this device and type.

    Raises:
        RuntimeError: what is wanted cannot serve here; the message says what to do.
    """
    return choose("prototype_loss", device, dtype, backend_of(wanted))


def rows_of(head: PrototypeHead, x_BD: Float[Tensor, "B D"], wanted: LossKernels) -> Rows:
    """The head's logits of some tokens, or, to recompute them, the two factors that they are products of."""
    if wanted != "recompute":
        return head(x_BD)
    z_BZ, w_KZ = head.bottleneck(x_BD), head.last_layer.matrix()
    # Mixed precision would take this product in half precision; it does not see it.
    mixed = torch.is_autocast_enabled(x_BD.device.type)
    dtype = torch.get_autocast_dtype(x_BD.device.type) if mixed else z_BZ.dtype
    return Projected(z_BZ.to(dtype), w_KZ.to(dtype))


def balanced(
    packs: Sequence[Tensor | Projected],
    temperature: float,
    iterations: int = 3,
    all_reduce: AllReduce = alone,
    wanted: LossKernels = "auto",
) -> Assignment:
    """`aqqua.objective.sinkhorn.sinkhorn` of the teacher rows of each pack."""
    if _served_rows(packs[0], wanted) == "reference":
        return sinkhorn([stored(pack) for pack in packs], temperature, iterations, all_reduce)
    return Assignment(balance(packs, temperature, iterations, all_reduce, "triton"), temperature)


def dino_share(
    student: Float[Tensor, "R K"] | Projected,
    taught: Float[Tensor, "B K"] | Projected,
    assignment: Assignment,
    n_images: int,
    n_images_total: int | Float[Tensor, ""],
    temperature: float,
    wanted: LossKernels = "auto",
) -> Float[Tensor, ""]:
    """`aqqua.objective.dino.dino_loss` of a pack.

    Args:
        student: rows crop by crop, the two global crops first. Logits may be overwritten: use them no more.
        taught: the teacher's rows of the global crops.
        n_images: of the pack; n_images_total: of the step.
    """
    if _served_rows(student, wanted) == "reference":
        target_GIK = assignment.probabilities(taught).unflatten(0, (GLOBALS, n_images))
        student_SIK = stored(student).unflatten(0, (-1, n_images))
        return dino_loss(student_SIK, target_GIK, n_images_total, temperature)
    R = student.shape[0]
    S = R // n_images
    device = tensors(student)[0].device
    weight_R = torch.full((R,), 1 / (GLOBALS * (S - 1)), device=device) / n_images_total
    targets_RG = dino_targets(S, GLOBALS, n_images, device)
    return _cross_entropy(student, taught, assignment, targets_RG, weight_R, temperature, S)


def ibot_share(
    student: Float[Tensor, "M K"] | Projected,
    taught: Float[Tensor, "M K"] | Projected,
    assignment: Assignment,
    weight_M: Float[Tensor, " M"],
    n_crops_total: int | Float[Tensor, ""],
    temperature: float,
    wanted: LossKernels = "auto",
) -> Float[Tensor, ""]:
    """`aqqua.objective.ibot.ibot_loss` of a pack.

    Args:
        student, taught: rows of the masked tokens. The student's logits may be overwritten.
        weight_M: 1 / masked tokens of the token's crop.
        n_crops_total: global crops of the step.
    """
    if _served_rows(student, wanted) == "reference":
        target_MK = assignment.probabilities(taught)
        return ibot_loss(stored(student), target_MK, weight_M, n_crops_total, temperature)
    targets_M1 = ibot_targets(len(weight_M), weight_M.device)
    weight_M = weight_M / n_crops_total
    return _cross_entropy(student, taught, assignment, targets_M1, weight_M, temperature)


def _served_rows(rows: Rows, wanted: LossKernels) -> str:
    some = tensors(rows)[0]
    return served(wanted, some.device, some.dtype)


def _cross_entropy(
    student: Float[Tensor, "R K"] | Projected,
    taught: Float[Tensor, "B K"] | Projected,
    assignment: Assignment,
    targets_RG: Tensor,
    weight_R: Tensor,
    temperature: float,
    crops: int = 1,
) -> Tensor:
    log_u_K, T = assignment.log_u_K, assignment.temperature
    teacher = Teacher(taught, log_u_K, row_normalisers(taught, T, log_u_K, "triton"), T)
    fixed = (targets_RG, weight_R, temperature, crops)
    return prototype_loss(student, teacher, *fixed, gradient="in_place", backend="triton").sum()
