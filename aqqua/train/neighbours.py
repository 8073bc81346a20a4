"""KoLeo beyond a pack: what the ranks tell each other, so that every pack knows its neighbours in its group.

A group is `objective.koleo_lanes` consecutive lanes. All that is told is laid in the order of the lanes, and
all that is computed is computed pack by pack, so that a pack finds the same neighbours, and the same bits,
however the lanes lie on ranks. Two exchanges a step: the CLS of all global views (float32) and the images
they show; then each row's neighbours.

Letters: G global crops per image, I images of a pack (padded: of the largest), J images of a group, D width,
L lanes, k neighbours of a row. Test: tests/train/test_koleo_neighbours.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from aqqua.objective.spread import Neighbours, nearest_rows, neighbours_of
from aqqua.train.ranks import Ranks


def neighbours_among(
    unit: Sequence[Tensor], images: Sequence[Tensor], ranks: Ranks, lanes: int, count: int
) -> list[Neighbours]:
    """Of each pack of this rank, in their order.

    Args:
        unit: CLS rows of each of this rank's packs, [G, I, D], of length 1.
        images: of each pack, [I], equal numbers the same image.
        ranks: of the run; rank r of R has the lanes r, r + R, ...
        lanes: of a group.
        count: neighbours of a row, k.
    """
    sizes_L = _in_lane_order(ranks.table([len(image_I) for image_I in images]))
    unit_L = _gather([unit_GID.transpose(0, 1) for unit_GID in unit], sizes_L, ranks)
    image_L = _gather(images, sizes_L, ranks)
    mine = range(ranks.rank, len(sizes_L), ranks.size)
    groups = [slice(lane // lanes * lanes, lane // lanes * lanes + lanes) for lane in range(len(sizes_L))]
    joined = {group.start: torch.cat(unit_L[group]).transpose(0, 1).contiguous() for group in groups}
    shown = {group.start: torch.cat(image_L[group]) for group in groups}
    found = [
        nearest_rows(unit_GID, image_I, joined[groups[lane].start], shown[groups[lane].start], count)
        for lane, unit_GID, image_I in zip(mine, unit, images, strict=True)
    ]
    nearest_L = _gather([nearest_GIk.transpose(0, 1) for nearest_GIk in found], sizes_L, ranks)
    nearest = {group.start: torch.cat(nearest_L[group]).transpose(0, 1) for group in groups}
    return [
        neighbours_of(
            joined[groups[lane].start],
            nearest[groups[lane].start],
            sum(sizes_L[groups[lane].start : lane]),
            sizes_L[lane],
        )
        for lane in mine
    ]


def _in_lane_order(rows: list[list[int]]) -> list[int]:
    """Numbers of each rank's packs, one row per rank, as those of the lanes."""
    return [number for column in zip(*rows, strict=True) for number in column]


def _gather(parts: Sequence[Tensor], sizes_L: list[int], ranks: Ranks) -> list[Tensor]:
    """Tensors of all lanes, whose first axis is as long as `sizes_L` says, from those of this rank's."""
    if ranks.size == 1:
        return list(parts)
    longest = max(sizes_L)
    rest = parts[0].shape[1:]
    flat = [part.reshape(len(part), -1) for part in parts]
    padded = [pad(part, (0, 0, 0, longest - len(part))) for part in flat]
    rows = ranks.stack(torch.stack(padded).flatten()).unflatten(1, (len(parts), longest, *rest))
    by_lane = rows.transpose(0, 1).flatten(0, 1)  # [R, packs] -> lanes: lane = pack · R + rank
    return [part[:size] for part, size in zip(by_lane, sizes_L, strict=True)]
