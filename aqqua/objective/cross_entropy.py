"""Cross-entropy between the teacher's probabilities and the student's logits, one value per row.

DINO and iBOT share it. The backward pass computes the student's softmax again from the logits as they
came (bfloat16 in training), so that no float32 copy of [R, K] lives from forward to backward.

Letter key: R rows, K prototypes. Test: tests/objective/test_cross_entropy.py.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student_RK: Tensor, target_RK: Tensor, temperature: float) -> Tensor:
        logits_RK = _at_least_float32(student_RK) / temperature
        target = _at_least_float32(target_RK)
        normaliser_R = logits_RK.logsumexp(dim=1)
        mass_R = target.sum(dim=1)
        ctx.save_for_backward(student_RK, target_RK, normaliser_R, mass_R)
        ctx.temperature = temperature
        return mass_R * normaliser_R - logits_RK.mul_(target).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        student_RK, target_RK, normaliser_R, mass_R = ctx.saved_tensors
        grad_RK = _at_least_float32(student_RK) / ctx.temperature
        grad_RK.sub_(normaliser_R[:, None]).exp_().mul_(mass_R[:, None]).sub_(target_RK)
        grad_RK.mul_(grads[0][:, None] / ctx.temperature)
        return grad_RK.to(student_RK.dtype), None, None


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def soft_cross_entropy(
    student_RK: Float[Tensor, "R K"], target_RK: Float[Tensor, "R K"], temperature: float
) -> Float[Tensor, " R"]:
    """−Σ_k target_k · log softmax(student / temperature)_k for every row, in float32 (or float64).

    Args:
        student_RK: logits. The gradient comes back in their type.
        target_RK: teacher probabilities; a row may be the sum of several, as cross-entropy is linear in
            it. Takes no gradient.
        temperature: student temperature, 0.1 in DINOv2 and DINOv3.
    """
    return _SoftCrossEntropy.apply(student_RK, target_RK.detach(), temperature)
