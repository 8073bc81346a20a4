"""Which pixels of an image are organism, by the simplest rule: those that differ from the background.

Good enough for a baseline whose features are meant to be old-fashioned; it is not the segmentation that sizes
and carbon rest on. Letters: H rows, W columns. Test: tests/evaluate/contenders/test_foreground.py.
"""

import numpy as np
from jaxtyping import Bool, Float32

from aqqua.store.read import Block

FLOOR = 10 / 255  # least contrast, full scale = 1
NOISE_FACTOR = 4.0  # times the median deviation at the rim: 2.7 standard deviations of Gaussian noise


def contrast_of(block: Block, i: int) -> Float32[np.ndarray, "H W"]:
    """Grey value minus background, full scale = 1; colour is the mean of its channels. −1 to 1."""
    sizes = block.sizes
    pixels, channels = block.pixels(i).astype(np.float32), int(sizes.channels[i])
    background = sizes.background[i, :channels].astype(np.float32)
    difference = pixels - (background if channels == 3 else background[0])
    grey = difference.mean(axis=2) if channels == 3 else difference
    return np.asarray(grey / (65535.0 if sizes.bits[i] == 16 else 255.0), np.float32)


def foreground(contrast_HW: Float32[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The largest connected piece of what stands out from the rim's noise, brighter or darker, holes filled.

    Nothing stands out: all False.
    """
    from scipy.ndimage import binary_fill_holes, label

    rim = np.concatenate([contrast_HW[0], contrast_HW[-1], contrast_HW[:, 0], contrast_HW[:, -1]])
    strength_HW = np.abs(contrast_HW)
    threshold = max(FLOOR, NOISE_FACTOR * float(np.median(np.abs(rim))))
    piece_HW, pieces = label(strength_HW > threshold, structure=np.ones((3, 3)))
    if not pieces:
        return np.zeros(contrast_HW.shape, bool)
    largest = np.bincount(piece_HW.ravel())[1:].argmax() + 1
    return np.asarray(binary_fill_holes(piece_HW == largest), bool)
