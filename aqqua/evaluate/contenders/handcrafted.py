"""The handcrafted baseline: size, shape, moments, grey levels and texture of a thresholded organism.

What ZooProcess, IFCB and their kin have measured for decades; gradient boosting is its probe. Lengths are in
µm where the scale is known, else in pixels, and a flag says which.
Letters: I images, D features. Test: tests/evaluate/contenders/test_handcrafted.py.
Source: Grosjean et al. 2004 (ZooScan features); Sosik & Olson 2007 (IFCB: size, shape, Hu moments, texture).
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float32

from aqqua.evaluate.contenders.contender import Facts
from aqqua.evaluate.contenders.foreground import contrast_of, foreground
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

VERSION = 1  # of the recipe; another one names other features
LEVELS = 16  # bins of the grey histogram, contrast −1 to 1
PATTERNS = 10  # uniform local binary patterns of 8 neighbours at 1 px
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEATURES = (
    *("scale_known", "found", "log_area", "log_esd", "log_major", "log_minor", "log_perimeter"),
    *("log_image_height", "log_image_width", "image_share"),
    *("elongation", "eccentricity", "solidity", "extent", "circularity", "holes"),
    *(f"hu_{i}" for i in range(1, 8)),
    *("grey_mean", "grey_sd", "grey_skewness", "grey_kurtosis", "grey_total"),
    *(f"grey_q{round(100 * q):02}" for q in QUANTILES),
    *("centroid_shift", "gradient_mean", "gradient_sd"),
    *(f"level_{i}" for i in range(LEVELS)),
    *(f"pattern_{i}" for i in range(PATTERNS)),
)


class Handcrafted:
    """FEATURES of each image."""

    name = "handcrafted"
    facts = Facts(
        kind="handcrafted",
        sha256=None,
        parameters=0,
        input="native resolution, organism by threshold, lengths in µm where the scale is known",
        width=len(FEATURES),
        settings=f"version {VERSION}",
    )

    def __call__(self, dataset: Dataset, number: int) -> Float32[np.ndarray, "I D"]:
        """See Contender.

        Raises:
            RuntimeError: scikit-image is not installed.
        """
        block = dataset.block(number)
        scales = block.sizes.um_per_px.tolist()
        rows = [handcrafted_features(contrast_of(block, i), scales[i]) for i in range(len(block))]
        return np.array(rows, np.float32).reshape(len(block), len(FEATURES))

    def flops(self, sizes: Sizes) -> float:  # noqa: ARG002 - of all contenders
        """See Contender."""
        return 0.0


def handcrafted_features(
    contrast_HW: Float32[np.ndarray, "H W"], um_per_px: float
) -> Float32[np.ndarray, " D"]:
    """FEATURES of one image, all finite.

    Args:
        contrast_HW: grey value minus background, full scale = 1.
        um_per_px: µm per pixel; NaN is unknown.

    Nothing found: the whole image is measured, and the flag `found` is 0.
    """
    measure = _skimage("measure")
    mask = foreground(contrast_HW)
    found = bool(mask.any())
    if not found:
        mask = np.ones(contrast_HW.shape, bool)
    known = bool(np.isfinite(um_per_px))
    unit = um_per_px if known else 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a body one pixel thick has no convex hull: told by the value 1
        body = measure.regionprops(mask.astype(np.uint8), intensity_image=contrast_HW)[0]
        size, shape = _size(body, unit, contrast_HW.shape), _shape(body)
    values = [float(known), float(found), *size, *shape, *_grey(body, contrast_HW, mask)]
    row = np.array([*values, *_levels(contrast_HW, mask), *_patterns(contrast_HW, mask)], np.float32)
    assert row.shape == (len(FEATURES),)
    return np.nan_to_num(row, posinf=0.0, neginf=0.0)


def _size(body: Any, unit: float, shape: tuple[int, ...]) -> list[float]:
    lengths = (
        body.equivalent_diameter_area, body.axis_major_length, body.axis_minor_length, body.perimeter, *shape,
    )  # fmt: skip
    esd, *others = [float(np.log(max(length, 0.5) * unit)) for length in lengths]
    return [float(np.log(body.area * unit**2)), esd, *others, float(body.area) / (shape[0] * shape[1])]


def _shape(body: Any) -> list[float]:
    solidity = float(body.solidity)
    hu = np.asarray(body.moments_hu, np.float64)
    return [
        float(body.axis_minor_length / max(body.axis_major_length, 1e-6)),
        float(body.eccentricity),
        solidity if 0 < solidity <= 1 else 1.0,
        float(body.extent),
        float(4 * np.pi * body.area / max(body.perimeter, 1.0) ** 2),
        float(1 - body.euler_number),
        *(np.sign(hu) * np.log10(1 + 1e6 * np.abs(hu))).tolist(),  # they span many powers of ten
    ]


def _grey(body: Any, contrast_HW: np.ndarray, mask: np.ndarray) -> list[float]:
    inside = contrast_HW[mask].astype(np.float64)
    mean, sd = inside.mean(), inside.std()
    standard = (inside - mean) / max(sd, 1e-6)
    weight = np.abs(contrast_HW) * mask
    rows, columns = np.indices(contrast_HW.shape)
    total = max(float(weight.sum()), 1e-6)
    centre = np.array([(weight * rows).sum(), (weight * columns).sum()]) / total
    shift = np.linalg.norm(centre - np.array(body.centroid)) / max(body.equivalent_diameter_area, 1.0)
    down, right = (
        np.gradient(contrast_HW, axis=a) if contrast_HW.shape[a] > 1 else weight * 0 for a in (0, 1)
    )
    steepness = np.hypot(down, right)[mask]
    return [
        float(mean), float(sd), float((standard**3).mean()), float((standard**4).mean()),
        float(np.log1p(total)), *np.quantile(inside, QUANTILES).tolist(), float(shift),
        float(steepness.mean()), float(steepness.std()),
    ]  # fmt: skip


def _levels(contrast_HW: np.ndarray, mask: np.ndarray) -> list[float]:
    counts, _ = np.histogram(contrast_HW[mask], bins=LEVELS, range=(-1, 1))
    return (counts / max(int(mask.sum()), 1)).tolist()


def _patterns(contrast_HW: np.ndarray, mask: np.ndarray) -> list[float]:
    grey = np.round(127.5 + 127.5 * contrast_HW).clip(0, 255).astype(np.uint8)
    codes = _skimage("feature").local_binary_pattern(grey, 8, 1, "uniform")[mask].astype(np.int64)
    return (np.bincount(codes, minlength=PATTERNS) / len(codes)).tolist()


def _skimage(part: str) -> Any:
    try:
        from skimage import feature, measure
    except ImportError as error:
        raise RuntimeError(
            "handcrafted features need the package scikit-image, got none; pip install 'aqqua[downstream]'"
        ) from error
    return {"feature": feature, "measure": measure}[part]
