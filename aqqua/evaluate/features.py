"""Images to feature rows by a backbone of this project.

A model sees each whole image once, undisturbed, at its native resolution, packed.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from aqqua.model.sequences import Sequences
from aqqua.model.vit import Features, VisionTransformer
from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.whole import whole_packs
from aqqua.progress import silent
from aqqua.render import choose
from aqqua.store.read import Block, Dataset

Pooling = Literal["cls", "mean", "cls+mean"]
BUDGET_TOKENS = 16384
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Embedder:
    """A backbone that turns blocks of a dataset into features."""

    backbone: VisionTransformer
    views: ViewConfig
    pooling: Pooling = "cls"
    device: torch.device = _CPU
    told_times: float = 1.0  # µm/px it is told, over the true; NaN: it is told that this is unknown
    patch_px: int | None = None  # side of the patches; None: the backbone's own

    @property
    def width(self) -> int:
        return self.backbone.config.width * (2 if self.pooling == "cls+mean" else 1)

    @property
    def side(self) -> int:
        """Of the patches, px."""
        return self.patch_px or self.backbone.config.patch_px

    @torch.no_grad()
    def __call__(self, dataset: Dataset, number: int) -> Float[np.ndarray, "I D"]:
        """Features of all images of a block, in row order, float32."""
        found = [self._pool(*seen).float().cpu().numpy() for seen in self._seen(dataset, number)]
        return np.concatenate(found) if found else np.zeros((0, self.width), np.float32)

    @torch.no_grad()
    def patches(
        self, dataset: Dataset, number: int
    ) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " I1"]]:
        """Patch tokens of a block in row order, float32, and where each image starts; the last is N."""
        found, counts = [np.zeros((0, self.backbone.config.width), np.float32)], [np.zeros(1, np.int64)]
        for features, sequences in self._seen(dataset, number):
            found.append(features.patches_ND.float().cpu().numpy())
            counts.append((sequences.lengths - sequences.prefix).numpy())
        return np.concatenate(found), np.concatenate(counts).cumsum()

    def _seen(self, dataset: Dataset, number: int) -> Iterator[tuple[Features, Sequences]]:
        """What the backbone says of a block, pack by pack."""
        block, config = dataset.block(number), self.backbone.config
        packs = whole_packs(
            block.sizes, number, patch_px=self.side, prefix_tokens=config.prefix,
            budget_tokens=max(BUDGET_TOKENS, self.views.max_tokens[0] + config.prefix), views=self.views,
        )  # fmt: skip
        return (self._forward(pack, block) for pack in packs)

    def _forward(self, pack: Pack, block: Block) -> tuple[Features, Sequences]:
        pixels = [block.pixels(row) for row in pack.row_I.tolist()]
        told = replace(pack, um_per_px_V=pack.um_per_px_V * np.float32(self.told_times))
        return pack_features(self.backbone, told, pixels, self.device)

    def _pool(self, features: Features, sequences: Sequences) -> torch.Tensor:
        return pooled(features, sequences, self.pooling)


def all_features(
    make: Callable[[Dataset, int], np.ndarray],
    dataset: Dataset,
    progress: Callable[[int], None] = silent,
) -> Float[np.ndarray, "I D"]:
    """Features of every image, in dataset order. For sets that fit in memory."""
    parts, done = [], 0
    for number in range(dataset.blocks):
        parts.append(make(dataset, number))
        done += len(parts[-1])
        progress(done)
    return np.concatenate(parts)


def fingerprint(module: torch.nn.Module) -> str:
    """SHA-256 over the names and bytes of all weights: which model made these numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def pack_features(
    backbone: VisionTransformer, pack: Pack, pixels: list[np.ndarray], device: torch.device
) -> tuple[Features, Sequences]:
    """What the backbone says of a pack, and how its views lie in it; gradients flow where enabled."""
    config = backbone.config
    _, render = choose("auto", device)
    patches_NF = render(pack, pixels, pack.patch_px, config.channels).to(device)
    sequences = Sequences.from_grids(
        torch.from_numpy(pack.grid_V2),
        torch.from_numpy(pack.um_per_px_V),
        pack.patch_px,
        config.prefix,
        device,
        torch.from_numpy(pack.grey_V),
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return backbone(patches_NF, sequences), sequences


def pooled(features: Features, sequences: Sequences, pooling: Pooling) -> Float[torch.Tensor, "V D"]:
    """One row per view: its CLS token, the mean of its patches, or both."""
    if pooling == "cls":
        return features.cls_VD
    patches_ND = features.patches_ND.float()
    total_VD = torch.zeros(sequences.views, patches_ND.shape[1], device=patches_ND.device)
    total_VD.index_add_(0, sequences.view_N, patches_ND)
    mean_VD = total_VD / torch.bincount(sequences.view_N, minlength=sequences.views)[:, None]
    return mean_VD if pooling == "mean" else torch.cat([features.cls_VD.float(), mean_VD], dim=1)
