"""The Gram teacher: a frozen copy of the moving-average teacher that patch features are anchored to (DINOv3).

It is taken anew a few times, late in training, and sees the student's global views, unmasked. With `scale` 2
it sees each view at twice the side and its features come down to the student's grid, which smooths them. The
enlarged pixels are made from the rendered rows (bicubic): a view at native scale holds no finer ones, so only
what is lost in views that were reduced to the token cap is not brought back.

Letter key: N patch rows, F values of a patch row, D width, V views.
Test: tests/objective/test_gram_teacher.py.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer

COPIES = "gram.copies"  # of a checkpoint: how often the copy was taken


class GramConfig(BaseModel):
    """When the Gram teacher is taken, and how much its loss counts. Shares are of the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(
        default=2.0,
        gt=0,
        description="of the loss once it is on (DINOv3: 2; 1.5 in its high-resolution stage)",
    )
    start_share: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of the run after which the first copy is taken and the loss is on; DINOv3 begins "
        "after 1 M steps of pretraining, when patch features have begun to lose detail",
    )
    refresh_share: float = Field(
        default=0.05, gt=0, le=1, description="share of the run between copies (DINOv3: 10 000 steps)"
    )
    max_refreshes: int = Field(default=3, ge=0, description="copies after the first (DINOv3: 3)")
    scale: Literal[1, 2] = Field(
        default=1,
        description="side of the Gram teacher's views in those of the student's (DINOv3: 2); 2 takes 4 times "
        "the tokens",
    )

    def copies_at(self, share: float) -> int:
        """How many copies have been taken when so much of the run is over; 0: the loss is still off."""
        if share < self.start_share:
            return 0
        return 1 + min(int((share - self.start_share) / self.refresh_share), self.max_refreshes)


class GramTeacher(nn.Module):
    """The copy, in float32, and how often it was taken; both are parts of a checkpoint."""

    copies: Int[Tensor, ""]

    def __init__(self, teacher: VisionTransformer, scale: int) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(teacher).requires_grad_(False).eval()
        self.scale = scale
        self.register_buffer("copies", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, teacher: VisionTransformer, due: int) -> None:
        """Take a new copy if `due` copies should have been taken by now and were not."""
        if due > int(self.copies):
            self.backbone.load_state_dict(teacher.state_dict())
            self.copies.fill_(due)

    @torch.no_grad()
    def features(self, patches_NF: Float[Tensor, "N F"], views: Sequences) -> Float[Tensor, "N D"]:
        """Patch features of unmasked views, on the views' own grids.

        Args:
            patches_NF: patch rows of the global views.
            views: how they lie in the pack.
        """
        if self.scale == 1:
            return self.backbone(patches_NF, views).patches_ND
        side, channels = views.patch_px, patches_NF.shape[1] // views.patch_px**2
        grids_V2, um_per_px_V = views.grids_V2 * self.scale, views.um_per_px_V / self.scale
        large = Sequences.from_grids(grids_V2, um_per_px_V, side, views.prefix, views.device, views.grey_V)
        pixels = patches_NF.unflatten(1, (side, side, channels))
        large_NF = _resized(pixels, views, large).flatten(1)
        features_ND = self.backbone(large_NF, large).patches_ND
        return _resized(features_ND[:, None, None], large, views).flatten(1)


def from_teacher(tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """A checkpoint's tensors, with a Gram teacher where the model has one and the checkpoint has not: Gram
    anchoring may be turned on late in a run. No copy counts as taken, so the first follows when it is due."""
    if COPIES not in wanted or COPIES in tensors:
        return dict(tensors)
    head = "teacher.backbone."
    copied = {f"gram.{n.removeprefix('teacher.')}": x for n, x in tensors.items() if n.startswith(head)}
    return {**tensors, **copied, COPIES: torch.zeros((), dtype=torch.int64)}


def _resized(rows: Float[Tensor, "N P P C"], there: Sequences, here: Sequences) -> Float[Tensor, "N2 P P C"]:
    """Views of one grid each, as images, brought to other grids (bicubic, without antialiasing as DINOv3).

    Args:
        rows: of each patch, P·P pixels of C values; P = 1 for features.
        there: the packing they are in.
        here: the one they go to, of the same views on other grids.
    """
    side, channels = rows.shape[1], rows.shape[3]
    out = rows.new_empty(here.patches, side, side, channels)
    for grid, wanted, rows_VN, places_VN in _by_grid(there, here):
        (h, w), (new_h, new_w) = grid, wanted
        image = rows[rows_VN].unflatten(1, (h, w)).permute(0, 5, 1, 3, 2, 4)
        image = image.reshape(len(rows_VN), channels, h * side, w * side).float()
        image = interpolate(image, (new_h * side, new_w * side), mode="bicubic", align_corners=False)
        image = image.view(len(rows_VN), channels, new_h, side, new_w, side).permute(0, 2, 4, 3, 5, 1)
        out[places_VN] = image.flatten(1, 2).to(rows.dtype)
    return out


def _by_grid(
    there: Sequences, here: Sequences
) -> Iterator[tuple[tuple[int, int], tuple[int, int], Tensor, Tensor]]:
    """For each grid: it, what it becomes, patch rows of its views in both packings, [views, patches]."""
    firsts = [_first_rows(packing) for packing in (there, here)]
    grids, which_V = there.grids_V2.unique(dim=0, return_inverse=True)
    for number, grid in enumerate(grids):
        views_V = (which_V == number).nonzero()[:, 0]
        wanted = here.grids_V2[views_V[0]]
        both = [
            (first_V[views_V][:, None] + torch.arange(int(size.prod()))).to(there.device)
            for first_V, size in zip(firsts, (grid, wanted), strict=True)
        ]
        yield (int(grid[0]), int(grid[1])), (int(wanted[0]), int(wanted[1])), both[0], both[1]


def _first_rows(packing: Sequences) -> Int[Tensor, " V"]:
    counts_V = packing.lengths - packing.prefix
    return counts_V.cumsum(0) - counts_V
