"""What can be told of an image's quality from its pixels alone, as numbers; thresholds are in quality.py.

All are taken over the organism's box, of luma minus the background, so they do not change with polarity.
None needs a model, labels or other images.

Test: tests/curate/images/test_quality.py.
"""

from functools import lru_cache

import numpy as np

from aqqua.curate.images.descriptor import averaging

RING_CELLS = 16  # grid on which roundness is judged
RINGS = 8
STRIP_SHARE = 0.25  # of the rows at top and bottom where burnt-in marks are looked for
STRIP_PX = 64  # at most so many rows
MARK_TOLERANCE = 0.04  # of full scale: JPEG blurs black and white a little

# name -> meaning, with unit and range; the columns of `signatures` that say something of quality
MEASURES = {
    "box_long_px": "longer side of the organism's box, px",
    "focus": "variance of the Laplacian over that of the pixels, in the box, 0 to 64; large: sharp or noisy",
    "edge": "99th percentile of the gradient in the box, share of full scale per px, 0 to 0.71",
    "contrast": "peak difference to the background, share of full scale, 0 to 1",
    "saturated": "share of the box at black or white, where the background is neither, 0 to 1",
    "round": "share of the box's variance that distance from its centre explains, times its aspect, 0 to 1",
    "ring": "how much weaker the centre is than the strongest ring around it, share of that ring, -1 to 1",
    "burnt_in": "rows near the top or bottom that hold nothing but black and white, both, px",
}


def measure(pixels: np.ndarray, difference_HW: np.ndarray, box: np.ndarray, background: np.ndarray) -> tuple:
    """The measures of one image, in the order of MEASURES; those of the ring come from `roundness`, as 0.

    Args:
        pixels: [H, W] or [H, W, 3], uint8 or uint16.
        difference_HW: of its luma to the background.
        box: top, left, bottom, right, half-open.
        background: [3].
    """
    top, left, bottom, right = box.tolist()
    inside = difference_HW[top:bottom, left:right]
    full = 255.0 if pixels.dtype == np.uint8 else 65535.0
    peak = float(max(inside.max(), -inside.min()))
    focus, edge = _sharpness(inside, full)
    saturated = _saturated(pixels[top:bottom, left:right], background, int(full))
    marks = _marked_rows(pixels, full)
    return max(bottom - top, right - left), focus, edge, peak / full, saturated, 0.0, 0.0, marks


def box_picture(difference_HW: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What is in the box, averaged over RING_CELLS x RING_CELLS cells."""
    top, left, bottom, right = box.tolist()
    inside = difference_HW[top:bottom, left:right]
    rows, columns = averaging(bottom - top, 0, RING_CELLS), averaging(right - left, 0, RING_CELLS)
    picture: np.ndarray = rows @ inside @ columns.T
    return picture


def roundness(picture_IGG: np.ndarray, box_I4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`round` and `ring` of I images from their box pictures, float32."""
    height, width = box_I4[:, 2] - box_I4[:, 0], box_I4[:, 3] - box_I4[:, 1]
    aspect = np.minimum(height, width) / np.maximum(height, width)
    disc, ring_of_cell = _rings()
    cells = np.abs(picture_IGG.reshape(len(picture_IGG), -1)[:, disc])  # [I, cells of the disc]
    of_ring = (ring_of_cell[:, None] == np.arange(RINGS)).astype(np.float32)
    profile = cells @ of_ring / of_ring.sum(axis=0)  # [I, RINGS], from the centre out
    total = np.square(cells - cells.mean(axis=1, keepdims=True)).sum(axis=1)
    rest = np.square(cells - profile[:, ring_of_cell]).sum(axis=1)
    explained = np.where(total > 0, 1 - rest / np.maximum(total, 1e-12), 0)
    strongest = profile.max(axis=1)
    centre = profile[:, :2].mean(axis=1)
    ring = np.where(strongest > 0, (strongest - centre) / np.maximum(strongest, 1e-12), 0)
    return (explained * aspect).astype(np.float32), ring.astype(np.float32)


def _sharpness(inside: np.ndarray, full: float) -> tuple[float, float]:
    """focus and edge."""
    if min(inside.shape) < 3:
        return 0.0, 0.0
    middle = inside[1:-1, 1:-1]
    down, up, right, left = inside[2:, 1:-1], inside[:-2, 1:-1], inside[1:-1, 2:], inside[1:-1, :-2]
    laplacian = down + up
    laplacian += right
    laplacian += left
    laplacian -= 4 * middle
    gradient = np.square(down - up)
    gradient += np.square(right - left)
    steepest = np.partition(gradient, -1 - gradient.size // 100, axis=None)[-1 - gradient.size // 100]
    variance = float(inside.var())
    focus = float(laplacian.var()) / variance if variance > 0 else 0.0
    return focus, float(np.sqrt(steepest)) / 2 / full


def _saturated(inside: np.ndarray, background: np.ndarray, full: int) -> float:
    share = 0.0
    for extreme in (0, full):
        if np.abs(background.astype(np.int64) - extreme).max() > MARK_TOLERANCE * full:
            at = inside == extreme
            share += np.count_nonzero(at.all(axis=2) if at.ndim == 3 else at) / (at.shape[0] * at.shape[1])
    return share


def _marked_rows(pixels: np.ndarray, full: float) -> int:
    rows = min(int(len(pixels) * STRIP_SHARE), STRIP_PX)
    if rows == 0:
        return 0
    strips = [pixels[:rows], pixels[-rows:]]
    return max(_black_and_white(one if one.ndim == 2 else one[..., 1], full) for one in strips)


def _black_and_white(strip: np.ndarray, full: float) -> int:
    black, white = strip <= MARK_TOLERANCE * full, strip >= (1 - MARK_TOLERANCE) * full
    both = black.any(axis=1) & white.any(axis=1)
    return int(np.count_nonzero(both & (black | white).all(axis=1)))


@lru_cache(1)
def _rings() -> tuple[np.ndarray, np.ndarray]:
    """Which cells lie in the disc, [cells] bool; and the ring of each of those."""
    at = np.arange(RING_CELLS) + 0.5 - RING_CELLS / 2
    radius = np.hypot(at[:, None], at[None]).ravel() * (2 * RINGS / RING_CELLS)
    disc = radius < RINGS
    return disc, radius[disc].astype(np.int64)
