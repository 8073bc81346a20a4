"""The raw-pixel baseline: what a picture of 32 × 32 says without any model.

Test: tests/evaluate/contenders/test_pixels.py.
"""

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from aqqua.evaluate.contenders.contender import Facts
from aqqua.store.read import Block, Dataset
from aqqua.store.sizes import Sizes

PIXEL_SIDE = 32
VERSION = 1  # of the recipe; another one names other features


class Pixels:
    """Background removed, fitted into PIXEL_SIDE without stretching, flattened."""

    name = "pixels"
    facts = Facts(
        kind="pixels",
        sha256=None,
        parameters=0,
        input=f"fitted into {PIXEL_SIDE} × {PIXEL_SIDE} px without stretching, background removed",
        width=PIXEL_SIDE**2,
        settings=f"version {VERSION}",
    )

    def __call__(self, dataset: Dataset, number: int) -> Float32[np.ndarray, "I D"]:
        """See Contender."""
        return pixel_features(dataset, number)

    def flops(self, sizes: Sizes) -> float:  # noqa: ARG002 - of all contenders
        """See Contender."""
        return 0.0


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
