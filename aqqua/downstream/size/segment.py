"""The outline of the organism in an image, against the image's own background.

No instrument is named here: the ground and its noise are read off the border of the image, whether the
organism is darker or brighter than the ground is read off the image, and the outline follows where the
picture leaves the noise. What is plainly organism (`STRONG` times the contrast) pulls in the fainter pixels
that touch it, and nothing else does; small gaps close, holes fill. No random numbers: the same mask always.

Test: tests/downstream/size/test_size_segment.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

NOISE_FLOOR = 0.03  # of full scale: 8 of 255 grey levels; below it a difference is compression or shading
NOISE_FACTOR = 5.0  # x the robust standard deviation of the border
MAD_TO_SD = 1.4826  # of a Gaussian
CONTRAST = 99.0  # percentile of the differences: what the organism's clearest pixels differ by
WEAK, STRONG = 0.10, 0.30  # of the contrast: may belong to the organism, and does
ONE_SIDED = 3.0  # so many times more mass on one side of the ground: the other side is a halo
SPECK = 0.01  # objects below this share of the largest are dirt when all objects are asked for
CLOSING = (0.015, 1, 6)  # radius of the gaps that close: share of the longer side, least and most pixels
EIGHT = np.ones((3, 3), bool)

Objects = Literal["largest", "all"]
Polarity = Literal["dark", "bright", "both"]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The organism in one image of height H and width W."""

    mask_HW: Bool[np.ndarray, "H W"]  # empty where nothing stands out
    threshold: float  # difference from the ground, in grey levels of the image, above which pixels count
    polarity: Polarity  # the organism is darker than its ground, brighter, or some of both


def segment(pixels: np.ndarray, objects: Objects = "largest", threshold: float | None = None) -> Segmentation:
    """Find the organism.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
        objects: the largest of the things that stand out, or all of them but specks.
        threshold: grey levels of difference from the ground to use instead of the one from the border, as
            software of instruments does: every pixel at or above it counts, and no gap is closed.

    Raises:
        ValueError: the array is no such image, or the threshold is not above 0.
    """
    from scipy import ndimage

    _check(pixels, threshold)
    signed_HW = _difference(pixels)
    scale = float(np.iinfo(pixels.dtype).max)
    noise = _noise(signed_HW, scale)
    polarity = _polarity(signed_HW, noise)
    away_HW = {"dark": -signed_HW, "bright": signed_HW, "both": np.abs(signed_HW)}[polarity]
    if threshold is None:
        contrast = _contrast(away_HW, noise)
        weak, strong = max(noise, WEAK * contrast), max(noise, STRONG * contrast)
        mask_HW = _closed(_connected(away_HW >= weak, away_HW >= strong))
    else:
        weak = float(threshold)
        mask_HW = away_HW >= weak
    mask_HW = _chosen(ndimage.binary_fill_holes(mask_HW), objects)
    return Segmentation(mask_HW, weak, polarity)


@dataclass(frozen=True, slots=True)
class Blob:
    """One connected thing of a mask."""

    mask_HW: Bool[np.ndarray, "h w"]  # cut out
    touches_border: bool  # of the mask it was cut from


def blobs(mask_HW: Bool[np.ndarray, "H W"]) -> list[Blob]:
    """The connected things of a mask, the largest first, equals in reading order; corners connect."""
    from scipy import ndimage

    labels_HW, _ = ndimage.label(mask_HW, structure=EIGHT)
    height, width = mask_HW.shape
    found = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels_HW), start=1):
        touches = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        found.append(Blob(labels_HW[rows, columns] == i, touches))
    return sorted(found, key=lambda blob: -int(blob.mask_HW.sum()))


def _check(pixels: np.ndarray, threshold: float | None) -> None:
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3) or pixels.size == 0:
        raise ValueError(
            f"segment: an image must be (H, W) or (H, W, 3) of uint8 or uint16, got {pixels.shape} of "
            f"{pixels.dtype}; give the pixels as acquired"
        )
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise ValueError(
            f"segment: a colour image must have 3 channels, got {pixels.shape[2]}; drop the rest"
        )
    if threshold is not None and not threshold > 0:
        raise ValueError(f"segment: the threshold must be above 0, got {threshold}; give grey levels")


def _border(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def _difference(pixels: np.ndarray) -> Float32[np.ndarray, "H W"]:
    """Signed difference from the ground; of a colour image, that of the channel that differs most."""
    values = pixels.astype(np.float32)
    ground = np.median(_border(values), axis=0).astype(np.float32)
    signed = values - ground
    if signed.ndim == 2:
        return signed
    most = np.abs(signed).argmax(axis=2)
    difference_HW: np.ndarray = np.take_along_axis(signed, most[..., None], axis=2)[..., 0]
    return difference_HW


def _noise(signed_HW: np.ndarray, scale: float) -> float:
    """Below it a difference says nothing. By the border's quieter half: organisms cross borders."""
    away = np.abs(_border(signed_HW))
    return max(NOISE_FLOOR * scale, NOISE_FACTOR * MAD_TO_SD * float(np.median(away)))


def _polarity(signed_HW: np.ndarray, noise: float) -> Polarity:
    dark = float(-signed_HW[signed_HW < -noise].sum(dtype=np.float64))
    bright = float(signed_HW[signed_HW > noise].sum(dtype=np.float64))
    if dark >= ONE_SIDED * bright:
        return "dark"
    return "bright" if bright >= ONE_SIDED * dark else "both"


def _contrast(away_HW: np.ndarray, noise: float) -> float:
    """How much the clearest pixels of whatever stands out differ from the ground."""
    standing = away_HW[away_HW >= noise]
    return float(np.percentile(standing, CONTRAST)) if standing.size else 0.0


def _connected(weak_HW: np.ndarray, strong_HW: np.ndarray) -> Bool[np.ndarray, "H W"]:
    """The weak pixels that hang together with strong ones."""
    from scipy import ndimage

    labels_HW, count = ndimage.label(weak_HW, structure=EIGHT)
    kept = np.zeros(count + 1, bool)
    kept[np.unique(labels_HW[strong_HW])] = True
    kept[0] = False
    mask_HW: np.ndarray = kept[labels_HW]
    return mask_HW


def _closed(mask_HW: np.ndarray) -> np.ndarray:
    """Joins the cells of a chain and the two ends of a ring; nothing that was organism goes."""
    from scipy import ndimage

    share, least, most = CLOSING
    radius = int(np.clip(round(share * max(mask_HW.shape)), least, most))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = y * y + x * x <= radius * (radius + 1)
    padded = np.pad(mask_HW, radius)  # the outside is ground, not a wall
    return ndimage.binary_closing(padded, structure=disk)[radius:-radius, radius:-radius] | mask_HW


def _chosen(mask_HW: np.ndarray, objects: Objects) -> Bool[np.ndarray, "H W"]:
    from scipy import ndimage

    labels_HW, count = ndimage.label(mask_HW, structure=EIGHT)
    if count == 0:
        return mask_HW
    areas = np.bincount(labels_HW.ravel(), minlength=count + 1)
    areas[0] = 0
    if objects == "largest":
        return labels_HW == areas.argmax()
    return (areas >= max(SPECK * areas.max(), 1))[labels_HW]
