"""How an image is shown to a model that wants squares of one size.

The organism keeps its proportions: the longer side is fitted, the rest is filled with the image's own
background. No part is cut off, unlike the centre crop such models are published with: plankton fills its
image. Letters: C channels, S side. Test: tests/evaluate/contenders/test_square_input.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image

from aqqua.store.read import Block

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class SquareInput:
    """Size, fit and normalisation, as a model was trained with."""

    size: int  # S, pixels
    channels: int = 3  # grey is repeated for 3, colour averaged for 1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of ImageNet, full scale = 1
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    stretch: bool = False  # both sides to S, whatever the proportions

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"square input: interpolation must be one of {', '.join(INTERPOLATIONS)}, got "
                f"{self.interpolation}; the model's configuration names it"
            )
        if self.size < 1 or not self.channels == len(self.mean) == len(self.std):
            raise ValueError(
                f"square input: a side of at least 1 px and a mean and std for each of {self.channels} "
                f"channels are needed, got {self.size} px, {self.mean} and {self.std}; look at the model's "
                "configuration"
            )

    @property
    def words(self) -> str:
        """For people."""
        fit = "stretched" if self.stretch else "padded with its background, not stretched"
        return f"{self.size} × {self.size} px, {self.channels} channels, {fit}, {self.interpolation}"

    def __call__(self, block: Block, i: int) -> Float32[np.ndarray, "C S S"]:
        """Image i of a block, normalised."""
        sizes = block.sizes
        full = 65535.0 if sizes.bits[i] == 16 else 255.0
        pixels = np.atleast_3d(block.pixels(i)).astype(np.float32) / full
        background = sizes.background[i, : pixels.shape[2]].astype(np.float32) / full
        if self.channels == 1 and pixels.shape[2] == 3:
            pixels, background = pixels.mean(axis=2, keepdims=True), background.mean(keepdims=True)
        fitted = self._fitted(pixels)
        canvas = np.empty((self.size, self.size, pixels.shape[2]), np.float32)
        canvas[:] = background
        top, left = ((self.size - side) // 2 for side in fitted.shape[:2])
        canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.ascontiguousarray(((canvas - mean) / std).transpose(2, 0, 1), np.float32)

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        zoom = self.size / max(height, width)
        across = self.size if self.stretch else max(round(width * zoom), 1)
        down = self.size if self.stretch else max(round(height * zoom), 1)
        how = INTERPOLATIONS[self.interpolation]
        planes = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[2])]
        return np.stack([np.asarray(plane.resize((across, down), how)) for plane in planes], axis=2)
