"""Thumbnails: an image reduced, on its own background, with a scale bar in µm below.

Nothing is enlarged or stretched, and no grey level is moved: a faint animal stays faint. Where the scale is
unknown there is no bar. A picture narrower than the bar's words gets more of its background beside it. Small
ones are PNG, exact; the others WebP, a fifth of the size.

Test: tests/explore/atlas/test_thumbnails.py. Timing: bench/explore.py.
"""

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from aqqua.explore.picture import ScaleBar, eight_bit
from aqqua.store.read import Block

LARGEST_PX = 96  # of the longer side, bar and all
BAR_ROOM_PX = 17  # below the image: a gap, the bar, its words
NARROWEST_PX = 48  # width of what has a bar: "500 µm" in the letters below
LETTERS_PX = 12  # smaller ones blur mm to nm
EXACT_PX = 32  # longer side of what is PNG
WEBP = {"quality": 82, "method": 2}
_BAR_TOP, _BAR_THICK, _WORDS_TOP = 2, 2, 3  # px below the image; the letters have three empty rows above


@dataclass(frozen=True)
class Thumbnail:
    """An encoded picture."""

    data: bytes  # PNG or WebP
    width: int
    height: int


def thumbnail(
    pixels: np.ndarray, background: Sequence[int] | np.ndarray, um_per_px: float, bits: int = 8
) -> Thumbnail:
    """The thumbnail of an image.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
        background: its level in each channel, as stored.
        um_per_px: NaN unknown.
        bits: 8 or 16, of `background`.
    """
    levels = [int(level) >> 8 if bits == 16 else int(level) for level in background]
    known = math.isfinite(um_per_px)
    small, factor = _reduced(eight_bit(pixels), LARGEST_PX - BAR_ROOM_PX if known else LARGEST_PX)
    picture = Image.fromarray(small)
    if known:
        colour = levels[0] if picture.mode == "L" else tuple(levels[:3])
        picture = _with_bar(picture, colour, um_per_px / factor, sum(levels) / len(levels))
    exact = max(small.shape[:2]) <= EXACT_PX
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=6) if exact else picture.save(file, "WEBP", **WEBP)
    return Thumbnail(file.getvalue(), picture.width, picture.height)


def _reduced(pixels: np.ndarray, most_rows: int) -> tuple[UInt8[np.ndarray, "..."], float]:
    """So that it fits into LARGEST_PX × most_rows; and by which factor, at most 1."""
    height, width = pixels.shape[:2]
    factor = min(1.0, LARGEST_PX / width, most_rows / height)
    if factor == 1.0:
        return np.ascontiguousarray(pixels), factor
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture), factor


def _with_bar(
    picture: Image.Image, colour: int | tuple[int, ...], um_per_px: float, level: float
) -> Image.Image:
    """The picture above a bar of a round length and its words, black or white, whichever is seen."""
    width = max(picture.width, NARROWEST_PX)
    canvas = Image.new(picture.mode, (width, picture.height + BAR_ROOM_PX), colour)
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    bar = ScaleBar.of(width, um_per_px)
    ink = 0 if level > 127 else 255
    fill = ink if picture.mode == "L" else (ink, ink, ink)
    draw = ImageDraw.Draw(canvas)
    top, length = picture.height + _BAR_TOP, max(1, round(bar.px))
    draw.rectangle((1, top, length, top + _BAR_THICK - 1), fill=fill)
    _write(draw, (1, picture.height + _WORDS_TOP), bar.text, fill)
    return canvas


def _write(draw: ImageDraw.ImageDraw, at: tuple[float, int], text: str, fill: int | tuple[int, ...]) -> None:
    """Words in Pillow's own letters, which have no µ: a u with a longer stem is one."""
    x, y = at
    for part in filter(None, text.partition("µ")):
        shown = "u" if part == "µ" else part
        left, _, _, bottom = draw.textbbox((x, y), shown, font=_letters())
        draw.text((x, y), shown, fill=fill, font=_letters())
        if part == "µ":
            draw.line((left, bottom - 4, left, bottom + 1), fill=fill)
        x += draw.textlength(shown, font=_letters())


@lru_cache(1)
def _letters() -> Any:
    return ImageFont.load_default(LETTERS_PX)


def thumbnails_of(block: Block, images: Sequence[int], pool: ThreadPoolExecutor) -> list[Thumbnail]:
    """Thumbnails of some images of a block, by the threads of a pool."""
    sizes = block.sizes

    def one(i: int) -> Thumbnail:
        levels = sizes.background[i, : sizes.channels[i]]
        return thumbnail(block.pixels(i), levels, float(sizes.um_per_px[i]), int(sizes.bits[i]))

    return list(pool.map(one, images))
