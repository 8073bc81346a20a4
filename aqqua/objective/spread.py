"""KoLeo with neighbours from several packs of a step, as DINOv3 looks for them on several GPUs.

Which packs: those of a group of consecutive lanes (`objective.koleo_lanes`), whichever ranks serve them, so
that neither the number of ranks nor the order of packs on one matters. Packs are learnt one after the other,
so the CLS of all of them are made beforehand, in a pass of the student over the global views without gradient
and without drop-path; masks and hidden scales are those of the step. In that pass neighbours are chosen. A
pack's share then is

- its rows against their neighbours, and
- for the gradient alone, rows of other packs whose neighbour is one of its rows: they push it, too.

A pack's own rows are those with a gradient, all others come from the pass before. Without drop-path the
shares of a group therefore add up to the value and the whole gradient of KoLeo over one pack of all its
images; with it, rows of other packs are as if nothing had been dropped.

Letter key: G global crops per image, I images of the pack, J images of the group, D width, k neighbours of a
row, P rows elsewhere that have a neighbour here. Test: tests/objective/test_spread_loss.py.
Source: dinov3/loss/koleo_loss.py `KoLeoLossDistributed` (topk, loss_group_size).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pairwise_distance

EPS = 1e-8  # as in aqqua.kernels.segment; dinov3/loss/koleo_loss.py


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A pack within its group."""

    unit_GJD: Float[Tensor, "G J D"]  # of the group, of length 1, in the order of the lanes
    nearest_GIk: Int[Tensor, "G I k"]  # rows of the group; -1: there is no other image
    drawn_3P: Int[Tensor, "3 P"]  # crop, row elsewhere, its neighbour in this pack
    first: int  # of the pack's rows in the group


def unit_rows(features_GID: Float[Tensor, "G I D"]) -> Float[Tensor, "G I D"]:
    """At least float32, of length 1: EPS underflows in 16 bits."""
    exact = features_GID.to(torch.promote_types(features_GID.dtype, torch.float32))
    return normalize(exact, dim=-1, eps=EPS)


@torch.no_grad()
def nearest_rows(
    unit_GID: Float[Tensor, "G I D"],
    image_I: Int[Tensor, " I"],
    group_GJD: Float[Tensor, "G J D"],
    image_J: Int[Tensor, " J"],
    count: int,
) -> Int[Tensor, "G I k"]:
    """The rows of the group of largest dot product that show another image, in each crop by itself.

    Args:
        unit_GID: rows of a pack; group_GJD: of its group, itself included.
        image_I, image_J: equal numbers are the same image, which is no neighbour of itself.
        count: k. A row with fewer other images has -1 in place of the missing.
    """
    same_IJ = image_I[:, None] == image_J[None, :]
    with torch.autocast(unit_GID.device.type, enabled=False):
        likeness_GIJ = (unit_GID @ group_GJD.mT).masked_fill(same_IJ, -torch.inf)
    found = likeness_GIJ.topk(min(count, len(image_J)), dim=2)
    nearest = found.indices.masked_fill(found.values == -torch.inf, -1)
    return torch.nn.functional.pad(nearest, (0, count - nearest.shape[2]), value=-1)


def neighbours_of(
    unit_GJD: Float[Tensor, "G J D"], nearest_GJk: Int[Tensor, "G J k"], first: int, images: int
) -> Neighbours:
    """The pack of `images` rows from `first` on, in a group where every row's neighbours are known."""
    last = first + images
    here_GJk = (nearest_GJk >= first) & (nearest_GJk < last)
    here_GJk[:, first:last] = False  # its own rows are counted as such
    crop, row, place = here_GJk.nonzero(as_tuple=True)
    drawn_3P = torch.stack((crop, row, nearest_GJk[crop, row, place]))
    return Neighbours(unit_GJD, nearest_GJk[:, first:last], drawn_3P, first)


def spread_loss(features_GID: Float[Tensor, "G I D"], among: Neighbours) -> Float[Tensor, ""]:
    """A pack's share of the sum over rows of −log(distance to a neighbour), mean over the k (float32).

    Divided by the image count of the step it is DINOv3's value (mean per crop, summed over crops).

    Args:
        features_GID: CLS features of the pack, with gradient.
        among: of the same pack, in the same order of images.
    """
    with torch.autocast(features_GID.device.type, enabled=False):
        mine_GID = unit_rows(features_GID)
        images, k = among.nearest_GIk.shape[1:]
        before, after = among.unit_GJD[:, : among.first], among.unit_GJD[:, among.first + images :]
        all_GJD = torch.cat((before, mine_GID, after), dim=1)
        chosen = among.nearest_GIk.clamp(min=0).flatten(1)[..., None].expand(-1, -1, all_GJD.shape[2])
        neighbour_GIkD = all_GJD.gather(1, chosen).unflatten(1, (images, k))
        own_GIk = _closeness(mine_GID[:, :, None], neighbour_GIkD)
        own = own_GIk.masked_fill(among.nearest_GIk < 0, 0.0).sum()
        crop_P, row_P, place_P = among.drawn_3P
        drawn = _closeness(all_GJD[crop_P, row_P].detach(), all_GJD[crop_P, place_P]).sum()
        return (own + drawn - drawn.detach()) / k


def _closeness(x: Tensor, y: Tensor) -> Tensor:
    return -(pairwise_distance(x, y, eps=EPS) + EPS).log()
