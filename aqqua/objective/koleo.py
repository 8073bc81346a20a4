"""KoLeo: features of different images spread out, each away from its nearest neighbour.

Kozachenko-Leonenko entropy of the student's CLS features before the head. Test:
tests/objective/test_koleo.py.

Letter key: G global crops per image, I images of the pack (distinct), D width.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor

EPS = 1e-8  # underflows in fp16 and bf16 sums, hence float32 and no autocast below


def koleo_loss(
    features_GID: Float[Tensor, "G I D"], image_I: Int[Tensor, " I"] | None = None
) -> Float[Tensor, ""]:
    """Sum over rows of −log(distance to the nearest neighbour), each global crop by itself (float32).

    Divided by the image count of the step it is DINOv2's value (mean per crop, summed over crops). A pack
    of one image has no neighbour and gives 0. Two equal images give a finite value (16.525034 at D = 32).

    Args:
        features_GID: CLS features, one row per global crop and image.
        image_I: which image each row is of. A repeated image (a weight above 1, a window that crosses
            epochs) is no neighbour of itself, and a row without any other image counts 0. None: all
            images differ.

    Source: dinov2/loss/koleo_loss.py: neighbour by largest dot product, 1e-8 added to every component of
        the difference (torch.nn.PairwiseDistance) and once more inside the logarithm.
    """
    with torch.autocast(features_GID.device.type, enabled=False):
        x_GID = F.normalize(
            features_GID.to(torch.promote_types(features_GID.dtype, torch.float32)), dim=-1, eps=EPS
        )
        if x_GID.shape[1] < 2:
            return x_GID[:, :0].sum()  # 0, and still part of the graph
        with torch.no_grad():
            similarity_GII = x_GID @ x_GID.mT
            if image_I is None:
                image_I = torch.arange(x_GID.shape[1], device=x_GID.device)
            same_II = image_I[:, None] == image_I[None, :]
            nearest_GI = similarity_GII.masked_fill(same_II, -torch.inf).argmax(dim=2)
        neighbour_GID = x_GID.gather(1, nearest_GI[..., None].expand_as(x_GID))
        distance_GI = F.pairwise_distance(x_GID, neighbour_GID, eps=EPS)
        loss_GI = -(distance_GI + EPS).log()
        return loss_GI.masked_fill(same_II.all(dim=1), 0.0).sum()
