"""Do two images show the same picture? Said from their pixels, in the best pose and shift.

Two crops of one picture, one of them flipped, turned, cut a pixel aside, brightened by some per cent or
compressed again, differ by noise without form: averaged over 3 x 3 pixels it nearly vanishes. Two animals
that look alike differ in form, by many grey levels somewhere, however high their correlation is. So these
must hold: a correlation of the pixels, a higher one of the averages, and a bound on the largest difference of
the averages that is left after a gain and an offset are taken out. JPEG takes from a thin faint line what is
fine in it, so the pixels of such a copy agree little (0.72) where its averages still do (0.95). Averages at
the edge of what is compared are of the images' own neighbours: repeated edges would add noise there.

Measured on real images of seven sets: in copies compressed as JPEG of quality 75 the largest difference left
is at most 4 grey levels and 0.03 of the contrast for at least 99.7 % of each set; in the most alike pairs of
different organisms, of correlations below 0.94 and thin lines of contrast 20 to 52, it is at least 6 levels,
and 15 to 48 where the contrast is 200. What is brightened until white clips leaves more, at correlations
above 0.98.
Recall and false pairs: bench/data/duplicates.py.

`agreement` is the specification; `agreements` does the same to many pairs in C++ (csrc/same_picture*), bit
for bit where pixels are whole numbers to 255, else within 1e-5.

Test: tests/curate/copies/test_same_picture.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import BaseModel, ConfigDict, Field

from aqqua._core import same_pictures
from aqqua.curate.images.descriptor import posed

POSES_TRIED = 4  # of the eight, those in which the small pictures agree best
HOPEFUL = 0.4  # correlation next to the shift expected, below which shifts further off are not tried
CERTAIN = 0.98  # and from which on they need not be
FLAT = 1e-3  # sum of squares, grey levels²: nothing is there


class SamePicture(BaseModel):
    """When two images are the same picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_px: int = Field(2, ge=0, le=16, description="largest difference of height or width, px, once posed")
    shift_px: int = Field(2, ge=0, le=8, description="largest shift that is tried beside that, px")
    short_px: int = Field(
        8, ge=3, le=1000, description="images with a shorter side are compared exactly only"
    )
    correlation: float = Field(0.7, gt=0, lt=1, description="least correlation of the pixels, 0 to 1")
    smooth: float = Field(
        0.93, gt=0, lt=1, description="least correlation of their averages over 3 x 3, 0 to 1"
    )
    detail: float = Field(0.2, ge=-1, lt=1, description="least correlation of what 3 x 3 averaging removes")
    gain: float = Field(1.3, ge=1, le=4, description="largest ratio of the contrasts of the two, either way")
    residual_levels: float = Field(
        4.0, ge=0, le=64, description="largest difference left after 3 x 3 averaging: of 255 grey levels"
    )
    residual_levels_alike: float = Field(
        6.0, ge=0, le=64, description="the same where the pixels' correlation is at least 0.98"
    )
    residual_share: float = Field(
        0.03, gt=0, le=1, description="and that share of the peak difference to background on top"
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two images agree in their best pose and shift; of many pairs, arrays [P]."""

    correlation: np.ndarray  # of the pixels; 0 where no pose and shift reach the rule's
    smooth: np.ndarray  # of the averages over 3 x 3 pixels
    gain: np.ndarray  # of b's averages against a's
    residual: np.ndarray  # grey levels
    detail: np.ndarray  # correlation of what averaging takes away: of copies, even the noise is alike
    peak: np.ndarray  # largest difference to background of the first image, grey levels
    pose: np.ndarray  # of b, as in descriptor.posed; -1: none


@dataclass(frozen=True, slots=True)
class Pictures:
    """Differences to background of I images, one after the other."""

    pixels: np.ndarray  # float32, grey levels; may be mapped from a file
    start: np.ndarray  # [I] int64, where each begins
    shape: np.ndarray  # [I, 2] int32, height and width


def agreements(
    a: Pictures,
    b: Pictures,
    a_P: np.ndarray,
    b_P: np.ndarray,
    poses_PK: np.ndarray,
    rule: SamePicture,
    threads: int = 1,
) -> Agreement:
    """`agreement` of P pairs of images; fastest where pairs of one `a` follow each other.

    Args:
        a_P, b_P: which image of a and b, int64.
        poses_PK: those of b that are tried, int8; -1: none.
        threads: at most so many work; the result does not depend on them.
    """
    numbers, pose = same_pictures(
        a.pixels, a.start, a.shape, b.pixels, b.start, b.shape, a_P, b_P, poses_PK,
        size_px=rule.size_px, shift_px=rule.shift_px, correlation=rule.correlation, threads=threads,
    )  # fmt: skip
    correlation, smooth, gain, residual, detail, peak = numbers.T
    return Agreement(correlation, smooth, gain, residual, detail, peak, pose)


def agreement(a_HW: np.ndarray, b_HW: np.ndarray, poses: list[int], rule: SamePicture) -> Agreement:
    """Compare the differences to background of two images.

    Args:
        a_HW, b_HW: float32, grey levels.
        poses: those of b that are tried; those that do not fit the size of a are passed over.
    """
    a_HW, peak = a_HW.astype(np.float64), np.abs(a_HW).max()
    best, found = 0.0, (0.0, 0.0, 0.0, 0.0, 0.0, peak, -1)
    for pose in poses:
        turned = posed(b_HW, pose).astype(np.float64)
        if max(abs(turned.shape[0] - a_HW.shape[0]), abs(turned.shape[1] - a_HW.shape[1])) > rule.size_px:
            continue
        r, y, x = _best_shift(a_HW, turned, rule)
        if r >= rule.correlation and r > best:
            best, found = r, (r, *_judged(a_HW, turned, y, x, rule), peak, pose)
    return Agreement(*(np.array(one) for one in found))


def is_same(found: Agreement, rule: SamePicture, wide: np.ndarray) -> np.ndarray:
    """Whether agreements are good enough: bool [P].

    Args:
        wide: [P] bool; images of 16 bits, whose grey levels have no scale that is known.
    """
    # JPEG has 8 bits; in pictures of 16 as much as a JPEG of their own contrast may be left.
    alike = found.correlation >= CERTAIN
    levels = np.where(alike, rule.residual_levels_alike, rule.residual_levels)
    levels = levels * np.where(wide, found.peak / 255, 1.0)
    same: np.ndarray = (
        (found.correlation >= rule.correlation)
        & (found.smooth >= rule.smooth)
        & (found.detail >= rule.detail)
        & (found.gain >= 1 / rule.gain)
        & (found.gain <= rule.gain)
        & (found.residual <= levels + rule.residual_share * found.peak)
    )
    return same


def _margin(a_HW: np.ndarray, b_HW: np.ndarray, rule: SamePicture) -> tuple[int, int, int]:
    """What stays aside of a at every edge, so that b can be shifted; height and width of the rest."""
    height, width = np.minimum(a_HW.shape, b_HW.shape).tolist()
    margin = min(rule.shift_px, (min(height, width) - 1) // 4)
    return margin, height - 2 * margin, width - 2 * margin


def _best_shift(a_HW: np.ndarray, b_HW: np.ndarray, rule: SamePicture) -> tuple[float, int, int]:
    """The best correlation, and where the window of b then begins: uphill from where the centres of both
    agree; where nothing is there, from the middle; where that is not enough, everywhere."""
    margin, height, width = _margin(a_HW, b_HW, rule)
    a = a_HW[margin : margin + height, margin : margin + width]
    windows = sliding_window_view(b_HW, a.shape)
    if not _variance(a) > FLAT:
        return -1.0, 0, 0
    expected = [_centre(b_HW, axis) - _centre(a_HW, axis) + margin for axis in (0, 1)]
    last = [n - 1 for n in windows.shape[:2]]
    starts = [tuple(round(min(max(e, 0), n)) for e, n in zip(expected, last, strict=True))]
    starts.append((last[0] // 2, last[1] // 2))
    places = list(np.ndindex(*windows.shape[:2]))
    known: dict[tuple[int, ...], float] = {}

    def top_of(tried: list[tuple[int, ...]]) -> tuple[int, ...]:
        known.update({p: _correlation(a, windows[p]) for p in tried if p not in known})
        return max(known, key=lambda at: known[at])

    for top in starts:
        best: tuple[int, ...] = (-1, -1)
        while best != top:
            best = top
            top = top_of([p for p in places if max(abs(p[0] - best[0]), abs(p[1] - best[1])) <= 1])
            if known[top] < HOPEFUL:
                break
        if known[top] >= HOPEFUL:
            break
    if HOPEFUL <= known[top] < CERTAIN:
        top = top_of(places)
    return known[top], top[0], top[1]


def _judged(
    a_HW: np.ndarray, b_HW: np.ndarray, y: int, x: int, rule: SamePicture
) -> tuple[float, float, float, float]:
    """smooth, gain, residual and detail where the window of b begins at y, x."""
    margin, height, width = _margin(a_HW, b_HW, rule)
    nine_a, nine_b = _nine(a_HW), _nine(b_HW)
    of_a = np.s_[margin : margin + height, margin : margin + width]
    of_b = np.s_[y : y + height, x : x + width]
    a, b = nine_a[of_a], nine_b[of_b]
    smooth = gain = 0.0
    if _variance(a) > FLAT and _variance(b) > FLAT:
        both = (a * b).sum() - a.sum() * b.sum() / a.size
        smooth = both / (np.sqrt(_variance(a)) * np.sqrt(_variance(b)))
        gain = both / _variance(a)
    left = (b - b.sum() / b.size) - gain * (a - a.sum() / a.size)
    fine_a, fine_b = 9 * a_HW[of_a] - a, 9 * b_HW[of_b] - b
    lengths = np.sqrt(np.square(fine_a).sum()) * np.sqrt(np.square(fine_b).sum())
    # Pictures without detail do not differ in it.
    detail = (fine_a * fine_b).sum() / lengths if lengths > FLAT else 1.0
    return smooth, gain, np.abs(left).max() / 9, detail


def _variance(image: np.ndarray) -> float:
    """Sum of squared differences to the mean."""
    return float(np.square(image).sum() - image.sum() * image.sum() / image.size)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    variance = _variance(b)
    if not variance > FLAT:
        return 0.0
    both = (a * b).sum() - a.sum() * b.sum() / a.size
    return float(both / (np.sqrt(_variance(a)) * np.sqrt(variance)))


def _centre(image: np.ndarray, axis: int) -> float:
    """Where the energy of an image lies along an axis, px."""
    energy = np.square(image).sum(axis=1 - axis)
    total = float(energy.sum())
    return float(energy @ np.arange(len(energy))) / total if total > 0 else len(energy) / 2


def _nine(image: np.ndarray) -> np.ndarray:
    """Sums over 3 x 3 pixels, edges repeated."""
    padded = np.pad(image, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    nine: np.ndarray = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return nine
