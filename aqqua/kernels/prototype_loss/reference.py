"""Sinkhorn's sweeps and the cross-entropy over prototypes: the specification, in plain PyTorch.

In float32, or in float64 for float64 inputs. Every function holds a whole [R, K] array; so did DINOv2.

Letter key: R rows of a pack, B teacher rows, K prototypes, N partials, G targets of a row.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.kernels.prototype_loss.contract import Projected, Rows

# Sums over rows are added as whole multiples of 2**-36: whole numbers add exactly, so any split of the
# rows over ranks gives the same bits. The sum is at least 1 (its largest term is 1), so this is finer
# than float32 by four digits; int64 holds 2**27 (134 million) rows per step.
FIXED_POINT = 2.0**36


def widened(x: Tensor) -> Tensor:
    """x in float32, or as it is in float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def stored(rows: Rows) -> Float[Tensor, "R K"]:
    """The logits as a tensor. A product is made of widened factors, as the kernels' sums are."""
    return widened(rows.z_RZ) @ widened(rows.w_KZ).T if isinstance(rows, Projected) else rows


def row_normalisers_reference(
    logits_RK: Float[Tensor, "R K"], log_u_K: Float[Tensor, " K"], temperature: float
) -> Float[Tensor, " R"]:
    """log Σ_k exp(logits / temperature + log_u)."""
    return (widened(logits_RK) / temperature + log_u_K).logsumexp(dim=1)


def column_sums_reference(
    logits_RK: Float[Tensor, "R K"],
    log_u_K: Float[Tensor, " K"],
    lse_R: Float[Tensor, " R"],
    temperature: float,
) -> tuple[Float[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Column sums of exp(logits / temperature + log_u − lse), as the largest logarithm and the sum of
    exp relative to it; one partial, none for no row."""
    x_RK = widened(logits_RK) / temperature + log_u_K - lse_R[:, None]
    largest_NK = x_RK[:0] if len(x_RK) == 0 else x_RK.amax(dim=0, keepdim=True)
    base_NK = largest_NK.masked_fill(largest_NK == -torch.inf, 0.0)
    return largest_NK, (x_RK[None] - base_NK[:, None]).exp().sum(dim=1)


def join_reference(
    partial_NK: Float[Tensor, "N K"], sum_NK: Float[Tensor, "N K"], largest_K: Float[Tensor, " K"]
) -> Int[Tensor, " K"]:
    """Σ_n sum · exp(partial − largest), each term rounded to a whole multiple of 2**-36."""
    relative_NK = sum_NK * (partial_NK - largest_K).exp()
    return (relative_NK.double() * FIXED_POINT + 0.5).floor().long().sum(dim=0)


def prototype_loss_reference(
    student_RK: Float[Tensor, "R K"],
    teacher_BK: Float[Tensor, "B K"],
    log_u_K: Float[Tensor, " K"],
    lse_B: Float[Tensor, " B"],
    targets_RG: Int[Tensor, "R G"],
    weight_R: Float[Tensor, " R"],
    student_temperature: float,
    teacher_temperature: float,
) -> Float[Tensor, " R"]:
    """weight_r · −Σ_k p_rk log softmax(student / temperature)_rk, p the sum of a row's teacher rows."""
    target_BK = (widened(teacher_BK) / teacher_temperature + log_u_K - lse_B[:, None]).exp()
    none_1K = torch.zeros_like(log_u_K)[None]
    target_RK = torch.cat([target_BK, none_1K])[targets_RG.long()].sum(dim=1)  # -1 is the last row: none
    log_softmax_RK = (widened(student_RK) / student_temperature).log_softmax(dim=1)
    return -(target_RK.detach() * log_softmax_RK).sum(dim=1) * weight_R
