"""iBOT: from the visible patches, the student names what the teacher saw in the masked ones.

Every masked patch counts 1 / (masked patches of its crop), so each masked crop weighs the same; the sum
is divided by the number of all global crops, masked or not. Test: tests/objective/test_ibot.py.

Letter key: M masked tokens of the pack, K prototypes.
"""

from jaxtyping import Float
from torch import Tensor

from aqqua.objective.cross_entropy import soft_cross_entropy


def ibot_loss(
    student_MK: Float[Tensor, "M K"],
    teacher_MK: Float[Tensor, "M K"],
    weights_M: Float[Tensor, " M"],
    n_crops_total: int | Float[Tensor, ""],
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """This pack's share of the iBOT loss of the step (float32); 0 for a pack without masked tokens.

    Args:
        student_MK: student logits of the masked tokens.
        teacher_MK: target probabilities of the same tokens. Takes no gradient.
        weights_M: 1 / (masked tokens of the token's crop); 0 leaves a padding row out.
        n_crops_total: global crops of all packs and ranks of the step, **masked or not**. Where the data
            parallel engine averages gradients over ranks, multiply the loss by their number.

    Source: dinov2/loss/ibot_patch_loss.py `forward_masked`. Upstream's factors loss_scales (2) and
        ibot_loss_scale (1/2) cancel and are left out.
    """
    loss_M = soft_cross_entropy(student_MK, teacher_MK, student_temperature)
    return (loss_M * weights_M).sum() / n_crops_total
