"""Gram anchoring: the likeness between patches of a view stays what an early teacher saw (DINOv3).

Late in long training patch features lose detail; the matrix of patch-to-patch cosines is held to that of
a frozen copy. Test: tests/objective/test_gram.py.

Letter key: T patch tokens of the pack, V views, D width, N patches of one view.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor


def gram_loss(
    student_TD: Float[Tensor, "T D"], teacher_TD: Float[Tensor, "T D"], lengths: Sequence[int]
) -> Float[Tensor, ""]:
    """Sum over views of the mean squared difference of their Gram matrices (float32).

    Divided by the view count of the step it is DINOv3's value (`img_level`) when all views are equal in
    size. DINOv3 weighs it 2.0, and 1.5 in its high-resolution stage.

    Args:
        student_TD: patch features in packed order, without CLS and registers.
        teacher_TD: the Gram teacher's features of the same patches. Takes no gradient.
        lengths: patches of each view, as the plan has them on the host (reading them from the device
            would stall it).

    Raises:
        ValueError: the lengths do not add up to T.

    Source: dinov3/loss/gram_loss.py.
    """
    if sum(lengths) != len(student_TD):
        raise ValueError(
            f"gram_loss: lengths must add up to the {len(student_TD)} patch tokens, got {sum(lengths)}; "
            "leave CLS and register tokens out of both"
        )
    with torch.autocast(student_TD.device.type, enabled=False):
        xs_TD, xt_TD = _unit_rows(student_TD), _unit_rows(teacher_TD.detach())
        loss = xs_TD[:0].sum()  # 0, and part of the graph for a pack without views
        for xs_ND, xt_ND in zip(xs_TD.split(list(lengths)), xt_TD.split(list(lengths)), strict=True):
            if len(xs_ND):
                loss = loss + F.mse_loss(xs_ND @ xs_ND.T, xt_ND @ xt_ND.T)
        return loss


def _unit_rows(x_TD: Tensor) -> Tensor:
    return F.normalize(x_TD.to(torch.promote_types(x_TD.dtype, torch.float32)), dim=-1)
