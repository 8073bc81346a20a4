"""An image as a model sees it, made by hand from what `preprocessing` tells, and pictures to make it for."""

from pathlib import Path
from typing import Any

import numpy as np
from drawn_images import blob, make_dataset

from aqqua.store.read import Dataset


def by_hand(pixels: np.ndarray, told: dict[str, Any]) -> np.ndarray:
    """An image of moderate size by the steps that `preprocessing` tells."""
    side = told["patch_px"]
    values = pixels.astype(np.float32) / (65535 if pixels.dtype == np.uint16 else 255)
    if values.ndim == 3:
        values = values @ np.array([0.299, 0.587, 0.114], np.float32)
    border = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    background = np.sort(border)[(len(border) - 1) // 2]
    rows, columns = (int(max(np.ceil(length / side - 0.25), 1)) for length in values.shape)
    canvas = np.full((rows * side, columns * side), background, np.float32)
    top, left = (round((out - length) / 2) for out, length in zip(canvas.shape, values.shape, strict=True))
    canvas[top : top + values.shape[0], left : left + values.shape[1]] = values
    level = 0.0 if told["subtract_background"] else (background - told["mean"]) / told["std"]
    return (canvas - background) / told["std"] + level


def even_images(folder: Path) -> Dataset:
    """Grey pictures whose sides differ from whole patches of 4 px by an even number: no pixel is divided."""
    arrays = [image for image in map(blob, range(400)) if image.ndim == 2 and min(image.shape) >= 12]
    even = [image for image in arrays if all((-length) % 4 in (0, 2) for length in image.shape)][:12]
    assert len(even) == 12
    return make_dataset(folder, even)
