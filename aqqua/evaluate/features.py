"""Images to feature rows: by a trained backbone, by the same one untrained, or by raw pixels.

A model sees each whole image once, undisturbed, at its native resolution, packed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from aqqua.model.sequences import Sequences
from aqqua.model.vit import Features, VisionTransformer
from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.whole import whole_packs
from aqqua.render import choose
from aqqua.store.read import Block, Dataset

Pooling = Literal["cls", "mean", "cls+mean"]
BUDGET_TOKENS = 16384
PIXEL_SIDE = 32  # of the raw-pixel baseline
_CPU = torch.device("cpu")


def silent(_done: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Embedder:
    """A backbone that turns blocks of a dataset into features."""

    backbone: VisionTransformer
    views: ViewConfig
    pooling: Pooling = "cls"
    device: torch.device = _CPU

    @property
    def width(self) -> int:
        return self.backbone.config.width * (2 if self.pooling == "cls+mean" else 1)

    @torch.no_grad()
    def __call__(self, dataset: Dataset, number: int) -> Float[np.ndarray, "I D"]:
        """Features of all images of a block, in row order, float32."""
        block = dataset.block(number)
        config, found = self.backbone.config, []
        packs = whole_packs(
            block.sizes, number, patch_px=config.patch_px, prefix_tokens=config.prefix,
            budget_tokens=max(BUDGET_TOKENS, self.views.max_tokens[0] + config.prefix), views=self.views,
        )  # fmt: skip
        for pack in packs:
            features, sequences = self._forward(pack, block)
            found.append(self._pool(features, sequences).float().cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, self.width), np.float32)

    def _forward(self, pack: Pack, block: Block) -> tuple[Features, Sequences]:
        config = self.backbone.config
        _, render = choose("auto", self.device)
        pixels = [block.pixels(row) for row in pack.row_I.tolist()]
        patches_NF = render(pack, pixels, config.patch_px, config.channels).to(self.device)
        sequences = Sequences.from_grids(
            torch.from_numpy(pack.grid_V2),
            torch.from_numpy(pack.um_per_px_V),
            config.patch_px,
            config.prefix,
            self.device,
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.backbone(patches_NF, sequences), sequences

    def _pool(self, features: Features, sequences: Sequences) -> torch.Tensor:
        if self.pooling == "cls":
            return features.cls_VD
        patches_ND = features.patches_ND.float()
        total_VD = torch.zeros(sequences.views, patches_ND.shape[1], device=patches_ND.device)
        total_VD.index_add_(0, sequences.view_N, patches_ND)
        mean_VD = total_VD / torch.bincount(sequences.view_N, minlength=sequences.views)[:, None]
        return mean_VD if self.pooling == "mean" else torch.cat([features.cls_VD.float(), mean_VD], dim=1)


def pixel_features(dataset: Dataset, number: int) -> Float[np.ndarray, "I 1024"]:
    """The raw-pixel baseline: background removed, fitted into 32×32 without stretching, flattened."""
    block = dataset.block(number)
    rows = [_thumbnail(block, i) for i in range(len(block))]
    return np.array(rows, np.float32).reshape(len(block), PIXEL_SIDE**2)


def _thumbnail(block: Block, i: int) -> np.ndarray:
    full = 65535.0 if block.sizes.bits[i] == 16 else 255.0
    difference = block.pixels(i).astype(np.float32) - block.sizes.background[
        i, : block.sizes.channels[i]
    ].astype(np.float32).reshape((1, 1, -1) if block.sizes.channels[i] == 3 else (1, 1))
    grey = (difference if difference.ndim == 2 else difference.mean(axis=2)) / full
    height, width = grey.shape
    zoom = PIXEL_SIDE / max(height, width)
    size = max(round(width * zoom), 1), max(round(height * zoom), 1)
    small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
    canvas = np.zeros((PIXEL_SIDE, PIXEL_SIDE), np.float32)
    top, left = (PIXEL_SIDE - size[1]) // 2, (PIXEL_SIDE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas.ravel()


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
