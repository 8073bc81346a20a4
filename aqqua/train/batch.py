"""From a pack and its patch rows to what the model takes, on its device. Test: tests/train/test_data.py."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Kept, Sequences
from aqqua.objective.guides import GuideConfig
from aqqua.objective.ssl import GLOBALS, Batch
from aqqua.plan.pack import Pack, drop_scores, hide_scale
from aqqua.plan.view_config import ViewConfig
from aqqua.render.parcel import upload
from aqqua.train.told import Tables, known_of, told_of


@dataclass(frozen=True)
class Shape:
    """What the data path has to know of the model."""

    patch_px: int
    channels: int
    prefix_tokens: int
    drop_layers: int  # layers with drop-path; 0 where it is off
    hide_scale_odds: float
    dtype: torch.dtype = torch.float32  # of patch rows: what the first layer computes in
    guides: tuple[GuideConfig, ...] = ()  # that want facts beside the pixels

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        views: ViewConfig,
        dtype: torch.dtype,
        guides: tuple[GuideConfig, ...] = (),
        drop_path: bool = True,
    ) -> "Shape":
        """For a model whose first product is in `dtype`; `drop_path` false: none, whatever the model says."""
        drop_layers = model.layers if model.drop_path and drop_path else 0
        hidden = views.hide_scale_odds
        return cls(model.patch_px, model.channels, model.prefix, drop_layers, hidden, dtype, guides)


def make_batch(
    pack: Pack,
    patches_NF: Float[torch.Tensor, "N F"],
    shape: Shape,
    *,
    seed: int,
    step: int,
    device: torch.device,
    tables: Tables | None = None,
) -> Batch:
    """A pack and its rendered patch rows as the model takes them, on the device.

    Args:
        step: of training; what is dropped and hidden is drawn anew for each.
        tables: where further columns are read, for guides that want them.
    """
    scores = drop_scores(pack, seed, step, shape.drop_layers) if shape.drop_layers else None
    hide = hide_scale(pack, seed, shape.hide_scale_odds) if shape.hide_scale_odds else None
    told = told_of(pack, shape.guides, tables) if shape.guides else None
    moved = _upload(pack, patches_NF, {"hide": hide, "told": told}, device)
    grids, n_global = torch.from_numpy(pack.grid_V2), GLOBALS * pack.n_images

    def lay(n_views: int) -> Sequences:
        um_per_px, grey = moved["um_per_px"][:n_views], moved["grey"][:n_views]
        sides = pack.patch_px, shape.prefix_tokens
        return Sequences.from_grids(grids[:n_views], um_per_px, *sides, device, grey)

    return Batch(
        patches_NF=moved.get("rows", patches_NF),
        student=lay(pack.n_views),
        teacher=lay(n_global),
        n_images=pack.n_images,
        image_I=moved["image"],
        mask_N=moved["mask"],
        masked_M=moved["masked"],
        weight_M=moved["weight"],
        drop_scores_L2V=None if scores is None else torch.from_numpy(scores),
        hide_scale_V=moved.get("hide"),
        told_CB=moved.get("told"),
        known_Q=() if told is None else known_of(told, shape.guides),
        kept=_kept(pack, moved),
    )


def _kept(pack: Pack, moved: dict[str, torch.Tensor]) -> Kept | None:
    """Patches that the student gets; None: all of them."""
    if pack.dropped_N is None:
        return None
    return Kept(moved["kept"], torch.from_numpy(pack.kept_V.astype(np.int64)))


def _upload(
    pack: Pack, patches_NF: torch.Tensor, optional: dict[str, np.ndarray | None], device: torch.device
) -> dict[str, torch.Tensor]:
    """What the model needs of a pack on its device; also the rows, where they were rendered on the host."""
    parts = {
        "um_per_px": pack.um_per_px_V,
        "grey": pack.grey_V,
        "image": pack.sizes.key.view(np.int64),
        "mask": pack.mask_N,
        "masked": pack.masked_M,
        "weight": pack.weight_M,
    }
    if pack.dropped_N is not None:
        parts["kept"] = np.flatnonzero(~pack.dropped_N)
    rows = {"rows": patches_NF} if patches_NF.device.type == "cpu" else {}
    given = {name: part for name, part in optional.items() if part is not None}
    return upload({**parts, **given, **rows}, device)
