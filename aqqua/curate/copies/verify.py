"""Do two images show the same picture? Said from their pixels, in the best pose and shift.

Two crops of one picture, one of them flipped, turned, cut a pixel aside, brightened by some per cent or
compressed again, differ by noise without form: averaged over 3 x 3 pixels it nearly vanishes. Two animals
that look alike differ in form, by many grey levels somewhere, however high their correlation is. So both
must hold: a correlation, and a bound on the largest difference that is left after averaging and after a
gain and an offset are taken out.

Measured on real images of five instruments: in copies compressed as JPEG of quality 75 the largest difference
left is at most 8 grey levels for 99 % of them (9 where the contrast is 200); in the most alike pairs of
different organisms of like contrast it is at least 11, and 15 to 48 where the contrast is 200.
Recall and false pairs: bench/data/duplicates.py.

Test: tests/curate/copies/test_same_picture.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.images.descriptor import posed

POSES_TRIED = 2  # of the eight, those in which the small pictures agree best
HOPEFUL = 0.4  # correlation next to the shift expected, below which shifts further off are not tried
CERTAIN = 0.98  # and from which on they need not be


class SamePicture(BaseModel):
    """When two images are the same picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_px: int = Field(2, ge=0, le=16, description="largest difference of height or width, px, once posed")
    shift_px: int = Field(2, ge=0, le=8, description="largest shift that is tried beside that, px")
    short_px: int = Field(
        8, ge=3, le=1000, description="images with a shorter side are compared exactly only"
    )
    correlation: float = Field(0.85, gt=0, lt=1, description="least correlation of the pixels, 0 to 1")
    detail: float = Field(0.2, ge=-1, lt=1, description="least correlation of what 3 x 3 averaging removes")
    gain: float = Field(1.3, ge=1, le=4, description="largest ratio of the contrasts of the two, either way")
    residual_levels: float = Field(
        6.0, ge=0, le=64, description="largest difference left after 3 x 3 averaging: of 255 grey levels"
    )
    residual_share: float = Field(
        0.02, gt=0, le=1, description="and that share of the peak difference to background on top"
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two images agree in their best pose and shift."""

    correlation: float
    gain: float  # b against a
    residual: float  # grey levels
    detail: float  # correlation of what averaging takes away: of copies, even the noise is alike
    pose: int  # of b, as in descriptor.posed


def agreement(a_HW: np.ndarray, b_HW: np.ndarray, poses: list[int], rule: SamePicture) -> Agreement | None:
    """Compare the differences to background of two images.

    Args:
        a_HW, b_HW: float32, grey levels.
        poses: those of b that are tried.

    Returns:
        The best agreement, or None where no pose fits the size or none reaches the rule's correlation.
    """
    best: Agreement | None = None
    for pose in poses:
        turned = posed(b_HW, pose)
        if max(abs(turned.shape[0] - a_HW.shape[0]), abs(turned.shape[1] - a_HW.shape[1])) > rule.size_px:
            continue
        found = _best_shift(a_HW, np.ascontiguousarray(turned), rule)
        if found is not None and (best is None or found[0] > best.correlation):
            best = Agreement(*found, pose)
    return best


def is_same(found: Agreement | None, rule: SamePicture, peak_levels: float, wide: bool) -> bool:
    """Whether an agreement is good enough.

    Args:
        peak_levels: largest difference to background of the first image.
        wide: it has 16 bits, so its grey levels have no scale that is known.
    """
    if found is None or found.correlation < rule.correlation:
        return False
    if found.detail < rule.detail or not 1 / rule.gain <= found.gain <= rule.gain:
        return False
    # JPEG has 8 bits; in pictures of 16 as much as a JPEG of their own contrast may be left.
    levels = rule.residual_levels * (peak_levels / 255 if wide else 1.0)
    return found.residual <= levels + rule.residual_share * peak_levels


def _best_shift(
    a_HW: np.ndarray, b_HW: np.ndarray, rule: SamePicture
) -> tuple[float, float, float, float] | None:
    """Correlation, gain, residual and detail where b lies best on a."""
    height, width = np.minimum(a_HW.shape, b_HW.shape).tolist()
    margin = min(rule.shift_px, (min(height, width) - 1) // 4)
    a = a_HW[margin : height - margin, margin : width - margin]
    centred = a - a.mean()
    norm = float(np.sqrt(np.square(centred).sum()))
    if norm < 1e-3:
        return None
    windows = sliding_window_view(b_HW, a.shape)
    expected = [_centre(a_HW, axis) - _centre(b_HW, axis) for axis in (0, 1)]
    start = [round(min(max(margin - e, 0), n - 1)) for e, n in zip(expected, windows.shape, strict=False)]
    r, (y, x) = _search(centred, norm, windows, (start[0], start[1]))
    if r < rule.correlation:
        return None
    b = windows[y, x]
    gain = float((centred * b).sum()) / (norm * norm)
    smooth_a, smooth_b = _smoothed(centred), _smoothed(b - b.mean())
    residual = float(np.abs(smooth_b - gain * smooth_a).max())
    return r, gain, residual, _cosine(centred - smooth_a, b - b.mean() - smooth_b)


def _search(
    centred: np.ndarray, norm: float, windows: np.ndarray, start: tuple[int, int]
) -> tuple[float, tuple[int, int]]:
    """The best correlation, and its place: uphill from the start; where that is not enough, everywhere."""
    places = list(np.ndindex(*windows.shape[:2]))
    known: dict[tuple[int, int], float] = {}
    best = start
    while True:
        around = [p for p in places if abs(p[0] - best[0]) <= 1 and abs(p[1] - best[1]) <= 1]
        known |= {p: _correlation(centred, norm, windows[p]) for p in around if p not in known}
        top = max(known, key=lambda at: known[at])
        if top == best or known[top] < HOPEFUL:
            break
        best = top
    if HOPEFUL <= known[top] < CERTAIN:
        known |= {p: _correlation(centred, norm, windows[p]) for p in places if p not in known}
        top = max(known, key=lambda at: known[at])
    return known[top], top


def _correlation(centred: np.ndarray, norm: float, window: np.ndarray) -> float:
    b = np.ascontiguousarray(window).ravel()
    variance = float(b @ b) - float(b.sum()) ** 2 / b.size
    return float(centred.ravel() @ b) / (norm * float(np.sqrt(variance))) if variance > 1e-3 else 0.0


def _centre(image: np.ndarray, axis: int) -> float:
    """Where the energy of an image lies along an axis, px."""
    energy = np.square(image).sum(axis=1 - axis)
    total = float(energy.sum())
    return float(energy @ np.arange(len(energy))) / total if total > 0 else len(energy) / 2


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """1 where neither has anything: pictures without detail do not differ in it."""
    lengths = float(np.sqrt(np.square(a).sum()) * np.sqrt(np.square(b).sum()))
    return float((a * b).sum()) / lengths if lengths > 1e-3 else 1.0


def _smoothed(image: np.ndarray) -> np.ndarray:
    """Averages over 3 x 3 pixels, edges repeated."""
    padded = np.pad(image, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth: np.ndarray = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return smooth
