"""The scale bar that ZooImage burns into a vignette: found, then painted over with what lies around it.

ImageJ's "Scale Bar" at the upper right, as in the vignettes of a .zid: a black bar 3 or 4 rows high and 1 or
0.5 mm long, about a twentieth of the picture from its top and right edges, and under it "1 mm" or "0.50 mm".
It lies over the picture, often over the animal, so it cannot be cut off as a strip is
(aqqua.instruments.footer). Ink is darker (0 to 30, blurred by JPEG) than what these scanners see of an animal
(from about 40); only ink is painted over, by the median of what is near and not ink. Found in 62 of the 66
vignettes of a real scan; the other four are up to 28 px wide, narrower than the text, and hold a torn bar.
Test: tests/instruments/test_scale_bar.py.
"""

from dataclasses import dataclass

import numpy as np

from aqqua.instruments.image import EncodedImage
from aqqua.instruments.tree import Tree

INK = 30  # grey levels; the darkest animal seen is at 40
BAR_ROWS, BAR_MIN_ROWS = 4, 3
BAR_MIN_PX = 7  # 0.5 mm of the coarsest scan seen is 11 px; clipped ones are shorter
TEXT_ROWS, TEXT_LEFT_PX = 13, 26  # the text ends so many rows below the bar, and begins so far left of it
EDGE_SHARE, EDGE_PX = 0.08, 3  # how far from the corner the bar may be: a share of the side, and a little
RIM_PX = 1  # around ink, where JPEG and smooth letters leave its shade
NEAR_PX = 4  # where the colour of what is painted comes from, farther if all there is ink


@dataclass(frozen=True, slots=True)
class BarImage:
    """An image file without the scale bar in its upper right corner, where there is one."""

    member: str

    def load(self, tree: Tree) -> np.ndarray:
        return self.load_with_file(tree)[0]

    def load_with_file(self, tree: Tree) -> tuple[np.ndarray, bytes | None]:
        """The pixels, and the file's bytes where nothing is painted over."""
        pixels, data = EncodedImage(self.member).load_with_file(tree)
        bar = find_bar(pixels)
        return (pixels, data) if bar is None else (without_bar(pixels, bar), None)


def find_bar(pixels: np.ndarray) -> tuple[int, int, int] | None:
    """First row of the bar, its first column and the one behind it; None where there is none."""
    if pixels.dtype != np.uint8:
        return None
    height, width = pixels.shape[:2]
    levels: np.ndarray = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    for row in range(min(round(EDGE_SHARE * height) + EDGE_PX, height - BAR_MIN_ROWS + 1)):
        solid: np.ndarray = np.all(levels[row : row + BAR_MIN_ROWS] < INK, axis=0)
        end = next((j for j in range(width, 0, -1) if solid[j - 1]), 0)
        if not end or width - end > EDGE_SHARE * width + EDGE_PX:
            continue
        gaps = np.flatnonzero(~solid[:end])
        start = int(gaps[-1]) + 1 if len(gaps) else 0
        if end - start >= BAR_MIN_PX:
            return row, start, end
    return None


def without_bar(pixels: np.ndarray, bar: tuple[int, int, int]) -> np.ndarray:
    """A copy whose bar and text are painted over."""
    row, start, _ = bar
    top, bottom = max(row - RIM_PX, 0), min(row + BAR_ROWS + TEXT_ROWS, len(pixels))
    left = max(start - TEXT_LEFT_PX, 0)
    darkest = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    ink = np.zeros(pixels.shape[:2], bool)
    ink[top:bottom, left:] = darkest[top:bottom, left:] < INK
    ink = _grown(ink)
    painted = pixels.copy()
    for y, x in np.argwhere(ink).tolist():
        painted[y, x] = _nearby(pixels, ink, y, x)
    return painted


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and the pixels beside it."""
    padded = np.pad(mask, RIM_PX)
    height, width = mask.shape
    shifts = [(y, x) for y in range(2 * RIM_PX + 1) for x in range(2 * RIM_PX + 1)]
    return np.logical_or.reduce([padded[y : y + height, x : x + width] for y, x in shifts])


def _nearby(pixels: np.ndarray, ink: np.ndarray, y: int, x: int) -> np.ndarray:
    """Median of the pixels around one that are not ink, as near as there are any."""
    reach = NEAR_PX
    while True:
        rows = slice(max(y - reach, 0), y + reach + 1)
        columns = slice(max(x - reach, 0), x + reach + 1)
        known = pixels[rows, columns][~ink[rows, columns]]
        if len(known):
            return np.median(known, axis=0).astype(pixels.dtype)
        if reach > max(pixels.shape):  # all of the picture is ink
            return pixels[y, x]
        reach *= 2
