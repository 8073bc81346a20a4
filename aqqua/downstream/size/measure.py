"""The size of the organism in one image: in pixels, and in micrometres by a scale or a calibration.

Test: tests/downstream/size/test_size_table.py.
"""

import math
from dataclasses import dataclass

import numpy as np

from aqqua.downstream.size.segment import Objects, blobs, segment
from aqqua.downstream.size.shape import esd, shape_of
from aqqua.downstream.size.volume import moberg_sosik, prolate, sphere

LENGTHS = ("esd", "major", "minor", "perimeter", "feret")
VOLUMES = ("sphere", "prolate", "moberg_sosik")
MANY = 0.7  # share of all that stands out below which the largest object is not the whole picture


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of the UVP of one sample: area [µm²] = aa_um2 · px^exp; source: EcoPart, science of the UVP6 manual."""

    aa_um2: float
    exp: float
    threshold: float | None  # grey levels; pixels at or below are ground


@dataclass(frozen=True, slots=True)
class Measured:
    """One image, in pixels."""

    area: int = 0
    esd: float = math.nan
    major: float = math.nan
    minor: float = math.nan
    perimeter: float = math.nan
    feret: float = math.nan
    sphere: float = math.nan
    prolate: float = math.nan
    moberg_sosik: float = math.nan
    threshold: float = math.nan
    flag: str = "nothing found"


def measure(pixels: np.ndarray, objects: Objects = "largest", threshold: float | None = None) -> Measured:
    """Size of the organism in an image, in pixels.

    Raises:
        ValueError: the pixels are no image (aqqua.downstream.size.segment).
    """
    found = segment(pixels, "all", threshold)
    things = blobs(found.mask_HW)
    if not things:
        return Measured(threshold=found.threshold)
    total = int(found.mask_HW.sum())
    several = objects == "largest" and things[0].mask_HW.sum() < MANY * total
    things = things[:1] if objects == "largest" else things
    touches = any(thing.touches_border for thing in things)
    shapes = [shape_of(thing.mask_HW) for thing in things]
    first, area = shapes[0], sum(shape.area_px for shape in shapes)
    return Measured(
        area=area,
        esd=float(esd(area)),
        major=first.major_px,
        minor=first.minor_px,
        perimeter=sum(shape.perimeter_px for shape in shapes),
        feret=first.feret_px,
        sphere=float(sum(sphere(shape.esd_px) for shape in shapes)),
        prolate=float(sum(prolate(shape.major_px, shape.minor_px) for shape in shapes)),
        moberg_sosik=sum(moberg_sosik(t.mask_HW, s) for t, s in zip(things, shapes, strict=True)),
        threshold=found.threshold,
        flag="touches border" if touches else "several objects" if several else "",
    )


def calibrated_um_per_px(area_px: int, calibration: Calibration) -> float:
    """µm/px at which area_px square pixels have the calibrated area."""
    return math.sqrt(calibration.aa_um2 * area_px**calibration.exp / area_px)


def in_micrometres(measured: Measured, um_per_px: float | None) -> dict[str, float | None]:
    """The columns in µm, µm² and µm³; None where the image has no size or no scale."""
    names = ["area_um2", *(f"{n}_um" for n in LENGTHS), *(f"volume_{n}_um3" for n in VOLUMES)]
    if um_per_px is None or measured.area == 0:
        return dict.fromkeys(names)
    lengths = [getattr(measured, name) * um_per_px for name in LENGTHS]
    volumes = [getattr(measured, name) * um_per_px**3 for name in VOLUMES]
    return dict(zip(names, [measured.area * um_per_px**2, *lengths, *volumes], strict=True))
