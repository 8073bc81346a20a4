"""Size and form of one mask, in pixels.

Definitions are those of the IFCB features (WHOIGit/ifcb-features v4), so that numbers can be set beside
published ones: axes are four times the standard deviation of the pixels along the principal directions,
the perimeter is Benkrid & Crookes' estimate over the four-connected edge, the largest Feret diameter is
between corners of pixels. Multiply by µm/px once for lengths, twice for the area.

Test: tests/downstream/size/test_size_shape.py, against the IFCB features of a real bin.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

ONE_PIXEL = 2 / np.sqrt(np.pi)  # ESD of one pixel: no axis is shorter, or a line would have no volume


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one connected mask."""

    area_px: int
    esd_px: float  # diameter of the circle of this area
    major_px: float  # longer axis of the ellipse of equal second moments
    minor_px: float
    perimeter_px: float
    feret_px: float  # largest distance between two corners of pixels
    eccentricity: float  # of that ellipse, 0 for a circle to 1 for a line
    convex_area_px: float  # hull of the pixels' centres and half a pixel around it
    angle: float  # radians from the x to the y axis (down), of the major axis


def esd(area: float | np.ndarray) -> float | np.ndarray:
    """Equivalent spherical diameter, 2·√(A/π), in the length unit of the area."""
    return 2 * np.sqrt(area / np.pi)


def shape_of(mask_HW: Bool[np.ndarray, "H W"]) -> Shape:
    """Measure a mask.

    Raises:
        ValueError: the mask is empty.
    """
    from skimage.measure import perimeter

    area = int(np.count_nonzero(mask_HW))
    if area == 0:
        raise ValueError("shape_of: the mask must hold at least one pixel, got none; leave the image out")
    major, minor, angle = _axes(mask_HW)
    feret, convex_area = _hull(mask_HW)
    return Shape(
        area_px=area,
        esd_px=float(esd(area)),
        major_px=max(major, ONE_PIXEL),
        minor_px=max(minor, ONE_PIXEL),
        perimeter_px=float(perimeter(np.pad(mask_HW, 1), neighborhood=4)),
        feret_px=feret,
        eccentricity=float(np.sqrt(max(1 - (minor / major) ** 2, 0.0))) if major > 0 else 0.0,
        convex_area_px=convex_area,
        angle=angle,
    )


def _axes(mask_HW: np.ndarray) -> tuple[float, float, float]:
    y, x = np.nonzero(mask_HW)
    if len(y) == 1:
        return 0.0, 0.0, 0.0
    values, vectors = np.linalg.eigh(np.cov(np.stack([x, y]).astype(np.float64)))
    minor, major = 4 * np.sqrt(np.clip(values, 0, None))
    along = vectors[:, 1]
    return float(major), float(minor), float(np.arctan2(along[1], along[0]))


def _corners(mask_HW: np.ndarray) -> Float64[np.ndarray, "N 2"]:
    """Outermost corners of the pixels of every row: the hull needs no others."""
    rows = np.nonzero(mask_HW.any(axis=1))[0]
    left = mask_HW[rows].argmax(axis=1)
    right = mask_HW.shape[1] - mask_HW[rows, ::-1].argmax(axis=1)
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    return np.stack([x, y], axis=1).astype(np.float64)


def _hull(mask_HW: np.ndarray) -> tuple[float, float]:
    """Largest Feret diameter, and area of the hull of the centres widened by half its perimeter.

    The hull of the corners is never flat. It is that of the centres and the unit square added (Minkowski),
    so that area and perimeter of the latter follow from it.
    """
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    corners = _corners(mask_HW)
    hull = ConvexHull(corners)
    sides = np.ptp(corners, axis=0) - 1  # of the centres
    area, perimeter = hull.volume - sides.sum() - 1, hull.area - 4  # SciPy names for solids: volume, area
    return float(pdist(corners[hull.vertices]).max()), float(area + perimeter / 2)
