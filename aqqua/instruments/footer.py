"""The strip with scale bar and text that ZooProcess and UVPapp burn under a picture: found, then cut.

ZooProcess, UVPapp and EcoTaxa's own vignette maker add 31 rows below the object: text such as
"1 mm" from column 9 on, under it a bar that starts at column 9 (ecotaxa_back py/BO/Vignette.py
draws it so; crop.txt of ecotaxa_ML_template says 31). The same project may also hold pictures
without it (`keeporiginal=y`, other software), so the strip is looked for in each picture: text
above a bar that starts at the left edge. Cutting unseen would cut organisms.

Old ZooProcess wrote the text over the picture itself. There the rows above the text belong to the
organism, and only the rows from the text down are cut.
"""

from dataclasses import dataclass

import numpy as np

from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import RejectedInputError
from aqqua.instruments.tree import Tree

FOOTER_PX = 31
BAR_START = range(7, 13)  # columns; drawn at 9 or 10
BAR_MIN_PX = 8  # the shortest seen is 11 px (100 µm at 10.6 µm/px)
BAR_ROWS = range(2, 9)  # the bar lies this many rows above the bottom edge
TEXT_MIN_PX, TEXT_MAX_PX = 4, 14  # height of the text; the whole of it lies within 14 rows above the bar
TEXT_COLUMNS = range(7, 70)  # where it is looked for
TEXT_MIN_INK = 8  # dark pixels of the shortest text
WHITE, BLACK = 240, 15  # paper at least this bright or at most this dark; the ink is the opposite


@dataclass(frozen=True, slots=True)
class FooterImage:
    """An image file whose footer, where it has one, is cut off."""

    member: str
    footer_px: int = FOOTER_PX

    def load(self, tree: Tree) -> np.ndarray:
        return self.load_with_file(tree)[0]

    def load_with_file(self, tree: Tree) -> tuple[np.ndarray, bytes | None]:
        """The pixels, and the file's bytes where nothing is cut."""
        pixels, data = EncodedImage(self.member).load_with_file(tree)
        cut = footer_rows(pixels, self.footer_px)
        if cut >= len(pixels):
            raise RejectedInputError("not_an_organism", f"only a footer: {len(pixels)} rows of {cut}")
        return np.ascontiguousarray(pixels[: len(pixels) - cut]), None if cut else data


def footer_rows(pixels: np.ndarray, footer_px: int = FOOTER_PX) -> int:
    """Rows to cut from the bottom: 0 without a footer, else footer_px, or fewer where picture begins."""
    if pixels.dtype != np.uint8 or pixels.shape[1] < BAR_START.start + BAR_MIN_PX:
        return 0
    strip = pixels[-footer_px:]
    ink = _ink(strip)
    if ink is None:
        return 0
    text = _text_above_bar(ink)
    if text is None:
        return 0
    top, bottom = text
    if ink[top:, : BAR_START.start].any() or ink[top:bottom].sum() < TEXT_MIN_INK:
        return 0
    return len(strip) if _is_blank(strip[: top - 1]) else len(strip) - top + 1


def _ink(strip: np.ndarray) -> np.ndarray | None:
    """Where the strip holds ink: black on white or white on black; None where it is no paper at all."""
    darkest, brightest = (strip, strip) if strip.ndim == 2 else (strip.min(axis=2), strip.max(axis=2))
    if np.median(darkest) >= WHITE:
        return brightest < 64  # JPEG blurs black to about 50
    if np.median(brightest) <= BLACK:
        return darkest > 192
    return None


def _text_above_bar(ink: np.ndarray) -> tuple[int, int] | None:
    """First row of the text and first row below it, if a bar at the left has text over it."""
    for above_bottom in BAR_ROWS:
        bar = len(ink) - above_bottom
        if bar <= TEXT_MAX_PX or not _is_bar(ink[bar]):
            continue
        if _is_bar(ink[bar - 1]):  # ZooProcess draws two rows, UVPapp one
            bar -= 1
        window = ink[bar - TEXT_MAX_PX : bar, : TEXT_COLUMNS.stop].any(axis=1)
        inked = np.flatnonzero(window)
        # Paper parts text and bar, and ends the text at its top.
        if not len(inked) or inked[0] == 0 or inked[-1] == TEXT_MAX_PX - 1:
            return None
        top, bottom = (int(bar - TEXT_MAX_PX + row) for row in (inked[0], inked[-1] + 1))
        return (top, bottom) if bottom - top >= TEXT_MIN_PX else None
    return None


def _is_bar(row: np.ndarray) -> bool:
    columns = np.flatnonzero(row)
    return (
        len(columns) >= BAR_MIN_PX
        and int(columns[0]) in BAR_START
        and int(columns[-1]) - int(columns[0]) + 1 == len(columns)
    )


def _is_blank(rows: np.ndarray) -> bool:
    """Nothing but paper: values within JPEG noise of white or of black."""
    return not rows.size or int(rows.min()) >= WHITE or int(rows.max()) <= BLACK
