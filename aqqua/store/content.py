"""What can be said of an image from its pixels alone: background, organism box, content hash.

Plain vectorised NumPy without a model: it runs once per image while a dataset is written. A
learned crop may look elsewhere; the box only says where something stands out.
Test: tests/store/test_content.py. Timing: bench/data/ingest.py.
"""

import hashlib
import struct
from typing import NamedTuple

import numpy as np

NOISE_FLOOR = 4  # grey levels, summed over channels: below it a difference is compression or rounding
NOISE_FACTOR = 8  # × the border's median absolute deviation = 5.4 sigma of Gaussian noise
CUT = 100  # 1/CUT of the foreground's mass may lie beyond each side of the box


class Look(NamedTuple):
    """What `describe` sees in one image."""

    background: tuple[int, int, int]  # grey repeated
    box: tuple[int, int, int, int]  # top, left, bottom, right in pixels, half-open
    content: bytes  # 16


def describe(pixels: np.ndarray) -> Look:
    """Background colour, organism box and content hash of one image.

    The background is the lower median of the outermost border, so a value that occurs. The
    foreground is |pixel − background| summed over channels wherever that exceeds
    NOISE_FLOOR + NOISE_FACTOR × its median over the border. The box spans the 1 % to 99 %
    quantiles of the foreground's mass along rows and columns: a lone speck does not stretch it.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16, H and W at least 1.
    """
    signed = pixels.astype(np.int16 if pixels.dtype == np.uint8 else np.int32)
    border = _border(signed)
    middle = (len(border) - 1) // 2
    background = np.partition(border, middle, axis=0)[middle]
    noise = np.partition(_deviation(border, background), middle)[middle]
    mass = _deviation(signed, background)
    mass *= mass > NOISE_FLOOR + NOISE_FACTOR * int(noise)
    levels = background.tolist()
    return Look(
        background=tuple(levels) if pixels.ndim == 3 else (levels, levels, levels),
        box=_box(mass),
        content=content_hash(pixels),
    )


def content_hash(pixels: np.ndarray) -> bytes:
    """blake2b-128 of height, width, channels, bits (little-endian int32, int32, int8, int8) and pixels."""
    height, width = pixels.shape[:2]
    channels = 3 if pixels.ndim == 3 else 1
    digest = hashlib.blake2b(
        struct.pack("<iibb", height, width, channels, pixels.itemsize * 8), digest_size=16
    )
    digest.update(pixel_bytes(pixels))
    return digest.digest()


def pixel_bytes(pixels: np.ndarray) -> bytes:
    """Rows from the top, channels interleaved, little endian: the bytes a dataset stores."""
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def image_key(image_id: str) -> int:
    """The random key of an image, from its name alone: the same in every dataset that holds it."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _border(pixels: np.ndarray) -> np.ndarray:
    """Outermost pixels, (N,) or (N, 3); corners once, except in images one pixel wide or high."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _deviation(pixels: np.ndarray, background: np.ndarray) -> np.ndarray:
    """|pixel − background| summed over channels; int16 holds 3 × 255, int32 holds 3 × 65,535."""
    difference = np.abs(pixels - background)
    if np.ndim(background) == 0:
        return difference
    return difference[..., 0] + difference[..., 1] + difference[..., 2]


def _box(mass: np.ndarray) -> tuple[int, int, int, int]:
    down = mass.sum(axis=1, dtype=np.int64).cumsum()
    total = int(down[-1])
    if total == 0:
        return 0, 0, *mass.shape
    across = mass.sum(axis=0, dtype=np.int64).cumsum()
    # Integers throughout: the box must not depend on the order of floating-point sums.
    first, last = total // CUT, -(-(CUT - 1) * total // CUT)
    return (
        int(down.searchsorted(first, "right")),
        int(across.searchsorted(first, "right")),
        int(down.searchsorted(last, "left")) + 1,
        int(across.searchsorted(last, "left")) + 1,
    )
