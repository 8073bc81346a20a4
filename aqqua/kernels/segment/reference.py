"""What is done per view or per image of a pack: the specification, in plain PyTorch.

Sums are kept in float32, or in float64 where the inputs are.
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

EPS = 1e-8  # of KoLeo; dinov2/loss/koleo_loss.py


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _views(offsets_V1: Tensor, prefix: int) -> list[slice]:
    return [slice(start + prefix, end) for start, end in pairwise(offsets_V1.tolist())]


def mean_pool_reference(
    x_TD: Float[Tensor, "T D"], offsets_V1: Int[Tensor, " V1"], prefix: int
) -> Float[Tensor, "V1-1 D"]:
    """Mean of each view's rows after the prefix; 0 for a view without any."""
    x_TD = _exact(x_TD)
    return torch.stack([x_TD[v].sum(0) / max(v.stop - v.start, 1) for v in _views(offsets_V1, prefix)])


def attentive_pool_reference(
    values_THE: Float[Tensor, "T H E"],
    scores_TH: Float[Tensor, "T H"],
    offsets_V1: Int[Tensor, " V1"],
    prefix: int,
) -> Float[Tensor, "V1-1 H E"]:
    """Σ softmax(scores) · values over each view's rows after the prefix; 0 for a view without any."""
    values_THE, scores_TH = _exact(values_THE), _exact(scores_TH)
    views = _views(offsets_V1, prefix)
    return torch.stack([torch.einsum("nh,nhe->he", scores_TH[v].softmax(0), values_THE[v]) for v in views])


def split_prefix_reference(
    x_TD: Float[Tensor, "T D"], offsets_V1: Int[Tensor, " V1"], prefix: int
) -> tuple[Float[Tensor, "V1-1 R D"], Float[Tensor, "N D"]]:
    """The first `prefix` rows of each view, and all other rows."""
    rows_VR = offsets_V1[:-1].long()[:, None] + torch.arange(prefix, device=x_TD.device)
    other_T = torch.ones(len(x_TD), dtype=torch.bool, device=x_TD.device)
    other_T[rows_VR.flatten()] = False
    return x_TD[rows_VR], x_TD[other_T]


def take_prefix_reference(
    x_TD: Float[Tensor, "T D"], offsets_V1: Int[Tensor, " V1"], count: int
) -> Float[Tensor, "V1-1 R D"]:
    """The first `count` rows of each view."""
    return x_TD[offsets_V1[:-1].long()[:, None] + torch.arange(count, device=x_TD.device)]


def koleo_reference(features_GID: Float[Tensor, "G I D"], image_I: Int[Tensor, " I"]) -> Float[Tensor, ""]:
    """Σ −log(distance to the nearest neighbour among rows of the crop that show another image).

    The neighbour is the one of largest dot product; EPS is added to every component of the difference
    (torch.nn.PairwiseDistance) and once more inside the logarithm. In float32, because EPS underflows in the
    sums of 16 bits. Against the published formula: tests/objective/test_koleo.py.
    """
    x_GID = F.normalize(_exact(features_GID), dim=-1, eps=EPS)
    if x_GID.shape[1] < 2:
        return x_GID[:, :0].sum()
    same_II = image_I[:, None] == image_I[None, :]
    with torch.no_grad():
        nearest_GI = (x_GID @ x_GID.mT).masked_fill(same_II, -torch.inf).argmax(dim=2)
    neighbour_GID = x_GID.gather(1, nearest_GI[..., None].expand_as(x_GID))
    loss_GI = -(F.pairwise_distance(x_GID, neighbour_GID, eps=EPS) + EPS).log()
    return loss_GI.masked_fill(same_II.all(dim=1), 0.0).sum()
