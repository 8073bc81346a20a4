"""A small picture of an image, and what of it stays when the image is flipped or turned.

The picture is the ROI as luma minus its own background, averaged over a grid of 16 x 16 cells whatever its
shape. Of the picture's cosine transform a flip changes only signs, and a quarter turn also swaps rows with
columns; so absolute values, sorted within each pair (u, v), (v, u), are the same for all eight poses.
Sorting and taking absolute values never move two vectors apart, hence the distance of two such `invariants`
is at most the distance of the pictures in their best pose (over the frequencies kept): whatever is close in
some pose is found by a search among invariants, once per image instead of eight times.

Letters: I images, G side of the grid, F features.
Test: tests/curate/images/test_descriptor.py.
"""

from functools import lru_cache

import numpy as np

GRID = 16  # G, cells on a side
FREQUENCIES = 8  # of the cosine transform that invariants are made of, each way
HASH_FREQUENCIES = 12
HASH_BITS = 64
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as the renderer has it
STEP_PX = 0.25  # the centre of a picture is rounded to this, so that its weights can be kept
FLAT = 1e-3  # grey levels; below it the picture of an image is one value


def difference(pixels: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Luma of an image minus that of its background, float32 [H, W], in grey levels of the image's own bits.

    Args:
        pixels: [H, W] or [H, W, 3], uint8 or uint16.
        background: [3] in the same levels.
    """
    if pixels.ndim == 3:
        return pixels.astype(np.float32) @ LUMA - np.float32(background @ LUMA)
    return np.subtract(pixels, np.float32(background[0]), dtype=np.float32)


@lru_cache(16384)
def averaging(side: int, shift_steps: int = 0, cells: int = GRID) -> np.ndarray:
    """[cells, side] float32: row i averages the share [i, i + 1) / cells of a window of `side` pixels.

    Args:
        shift_steps: the window begins that many STEP_PX after the line; beyond the line it sees zeros.
    """
    edges = np.arange(cells + 1) * (side / cells) + shift_steps * STEP_PX
    first, last = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)
    share = np.clip(np.minimum(last, pixel + 1) - np.maximum(first, pixel), 0, None)
    return np.ascontiguousarray(share * (cells / side), np.float32)


def centred_picture(difference_HW: np.ndarray) -> np.ndarray:
    """A picture [G, G] of an image, float32: as large as the image, but centred on what stands out.

    The centre is that of the squared difference to the background, so a ROI cut one pixel further to the left
    gives the same picture; what would lie outside the image is background.
    """
    height, width = difference_HW.shape
    energy = np.square(difference_HW)
    down = _shift_steps(energy.sum(axis=1))
    right = _shift_steps(energy.sum(axis=0))
    picture: np.ndarray = averaging(height, down) @ difference_HW @ averaging(width, right).T
    return picture


def _shift_steps(energy: np.ndarray) -> int:
    """From the middle of a line to the centre of its energy, in STEP_PX."""
    total = float(energy.sum(dtype=np.float64))
    if total < FLAT:
        return 0
    centre = float(energy @ np.arange(0.5, len(energy), dtype=np.float32)) / total
    return round((centre - len(energy) / 2) / STEP_PX)


def quantised(picture_IGG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as bytes: 128 is the background, the strongest cell 1 or 255.

    Returns:
        The bytes, [I, G, G]; and what 127 of them are in grey levels, [I] float32, 0 of a flat picture.
    """
    scale_I = np.abs(picture_IGG).max(axis=(1, 2), initial=0)
    scale_I = np.where(scale_I < FLAT, 0, scale_I).astype(np.float32)
    unit = picture_IGG / np.where(scale_I > 0, scale_I, 1)[:, None, None]
    unit[scale_I == 0] = 0
    return np.rint(128 + 127 * unit).astype(np.uint8), scale_I


def unit_pictures(descriptor_IGG: np.ndarray) -> np.ndarray:
    """Descriptors with mean 0 and length 1 (0 where flat), so that products are correlations: float32."""
    values = descriptor_IGG.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((values * values).sum(axis=(1, 2), keepdims=True))
    unit: np.ndarray = values / np.maximum(length, 1e-6)
    return unit


def invariants(descriptor_IGG: np.ndarray, frequencies: int = FREQUENCIES) -> np.ndarray:
    """Features [I, F] float32 that the eight poses share; F = frequencies² - 1, length at most 1."""
    cosines = _cosines(frequencies)
    transform = np.abs(cosines @ unit_pictures(descriptor_IGG) @ cosines.T)
    swapped = transform.transpose(0, 2, 1)
    upper = np.triu_indices(frequencies, 1)
    larger, smaller = np.maximum(transform, swapped), np.minimum(transform, swapped)
    diagonal = transform[:, np.arange(1, frequencies), np.arange(1, frequencies)]
    # The mean of every picture is 0, so the frequency (0, 0) says nothing.
    return np.concatenate([larger[:, *upper], smaller[:, *upper], diagonal], axis=1)


def spectra(descriptor_IGG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest FREQUENCIES² frequencies of pictures of length 1, and the length of what is above them.

    Returns:
        Lines [I, 64] float32 of four classes of 4 x 4: frequencies even both ways, odd down, odd across, odd
        both ways. A flip changes the sign of two classes. And [I] float32, 0 to 1.
    """
    unit, cosines = unit_pictures(descriptor_IGG), _cosines(FREQUENCIES)
    transform = cosines @ unit @ cosines.T
    classes = [transform[:, down::2, across::2] for down, across in ((0, 0), (1, 0), (0, 1), (1, 1))]
    lines = np.concatenate([one.reshape(len(unit), -1) for one in classes], axis=1)
    above = np.square(unit).sum(axis=(1, 2)) - np.square(lines).sum(axis=1)
    return lines, np.sqrt(np.maximum(above, 0))


def perceptual_hash(descriptor_IGG: np.ndarray) -> np.ndarray:
    """64 bits per image, the same for all eight poses: [I] uint64.

    Bit k tells whether feature k stands above the median of the image's 64 features of lowest frequency, once
    each is set against how fast spectra of pictures fall.
    """
    features = invariants(descriptor_IGG, HASH_FREQUENCIES)[:, _hash_order()]
    features = features * (1 + _hash_frequency())  # spectra fall about as 1 / frequency
    bits = features > np.median(features, axis=1, keepdims=True)
    packed = np.packbits(bits, axis=1, bitorder="little")
    words: np.ndarray = np.ascontiguousarray(packed).view("<u8")[:, 0]
    return words


def poses(images: np.ndarray) -> np.ndarray:
    """The eight poses of square images [..., G, G]: [8, ..., G, G]."""
    turned = [np.rot90(images, quarter, axes=(-2, -1)) for quarter in range(4)]
    return np.stack([*turned, *(np.swapaxes(one, -2, -1) for one in turned)])


def posed(image: np.ndarray, pose: int) -> np.ndarray:
    """One image [H, W] in the pose of that number in `poses`."""
    turned = np.rot90(image, pose % 4)
    return turned.T if pose >= 4 else turned


@lru_cache(4)
def _cosines(frequencies: int) -> np.ndarray:
    """[frequencies, G] float32, rows of length 1."""
    at = (np.arange(GRID) + 0.5) * np.pi / GRID
    rows = np.cos(np.arange(frequencies)[:, None] * at)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@lru_cache(1)
def _frequency_of_feature() -> np.ndarray:
    u, v = np.triu_indices(HASH_FREQUENCIES, 1)
    squares = u * u + v * v
    diagonal = 2 * np.arange(1, HASH_FREQUENCIES) ** 2
    return np.sqrt(np.concatenate([squares, squares, diagonal]))


@lru_cache(1)
def _hash_order() -> np.ndarray:
    return np.argsort(_frequency_of_feature(), kind="stable")[:HASH_BITS]


@lru_cache(1)
def _hash_frequency() -> np.ndarray:
    return _frequency_of_feature()[_hash_order()].astype(np.float32)
