"""Pixels and plans as SVG: an image with the outlines of its views, a view with its mask, a scale bar.

A drawing's unit is the pixel of what it shows, so a length in it is a length in pixels. Raster parts are PNG
inside the SVG; nothing is fetched. Greys of views: `Greys`. Test: tests/explore/test_picture.py.
"""

import base64
import io
import math
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from aqqua.explore.parameters import Parameters
from aqqua.explore.shown import ShownImage, ShownView
from aqqua.plan.view_config import ViewConfig

BAR_SHARE = 0.6  # of the picture's width that a scale bar takes at most
LARGEST_SIDE = 1024  # px of an original in the page; larger ones are reduced
GLOBAL_COLOURS = ("#e8590c", "#1c7ed6")
_GOLDEN_ANGLE = 137.508  # degrees: hues of neighbours in a row of any length lie far apart


@dataclass(frozen=True)
class Greys:
    """From a value x that the model gets to a grey of the screen: 255 · (level + slope · x), cut to 0 to 255.

    The same for all images, since the model does not know where the background of an image was.
    """

    level: float  # of x = 0, full scale = 1
    slope: float  # full scale = 1, per unit of x

    @classmethod
    def of(cls, config: ViewConfig) -> "Greys":
        """Where the background is subtracted, it is mid-grey, at half the contrast: ±1 fits."""
        if config.subtract_background:
            return cls(0.5, 0.5 * config.std)
        return cls(config.mean, config.std)

    def bytes_of(self, values_hwC: Float32[np.ndarray, "h w C"]) -> UInt8[np.ndarray, "h w C"]:
        grey = np.rint(255 * (self.level + self.slope * values_hwC.astype(np.float64)))
        return np.clip(grey, 0, 255).astype(np.uint8)

    def clipped_share(self, values_hwC: Float32[np.ndarray, "h w C"]) -> float:
        """Share of the values that are beyond black or white."""
        grey = self.level + self.slope * values_hwC
        return float(((grey < -0.5 / 255) | (grey > 1 + 0.5 / 255)).mean())


@dataclass(frozen=True)
class ScaleBar:
    """A round length, and how many pixels of the picture it is."""

    length: float  # µm; px where the scale is unknown
    known: bool
    px: float

    @classmethod
    def of(cls, width_px: float, um_per_px: float) -> "ScaleBar":
        """The longest of 1, 2, 5, 10, ... µm that takes at most BAR_SHARE of the width."""
        known = not math.isnan(um_per_px)
        unit = um_per_px if known else 1.0
        length = _round_length(BAR_SHARE * width_px * unit)
        return cls(length, known, length / unit)

    @property
    def text(self) -> str:
        if not self.known:
            return f"{self.length:g} px, scale unknown"
        if self.length >= 1000:
            return f"{self.length / 1000:g} mm"
        return f"{self.length:g} µm"


def _round_length(most: float) -> float:
    power = 10.0 ** math.floor(math.log10(most))
    return max((step * power for step in (1, 2, 5) if step * power <= most), default=power)


def colour_of(parameters: Parameters) -> str:
    """CSS colour of a view, the same in its outline and its caption."""
    if parameters.is_global:
        return GLOBAL_COLOURS[parameters.number - 1]
    return f"hsl({(parameters.number - 1) * _GOLDEN_ANGLE % 360:.0f} 75% 45%)"


def png_uri(pixels: UInt8[np.ndarray, "..."]) -> str:
    """A PNG as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def eight_bit(pixels: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """As stored, or the upper byte of 16 bits: a lower one would not be seen."""
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def corners(parameters: Parameters, patch_px: int) -> list[tuple[float, float]]:
    """Corners of a view in source px, round from the one its first pixel lies at."""
    rows, columns = parameters.grid
    height, width = rows * patch_px, columns * patch_px
    (a, b, c), (d, e, f) = parameters.map_23.astype(np.float64).tolist()
    around = ((0, 0), (width, 0), (width, height), (0, height))
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in around]


def frame_of(image: ShownImage, patch_px: int) -> tuple[int, int, int, int]:
    """Left, top, width, height in source px of what holds the image and all its views."""
    points = [point for view in image.views for point in corners(view.parameters, patch_px)]
    height, width = image.pixels.shape[:2]
    xs, ys = [0.0, width, *(x for x, _ in points)], [0.0, height, *(y for _, y in points)]
    left, top = math.floor(min(xs)), math.floor(min(ys))
    return left, top, math.ceil(max(xs)) - left, math.ceil(max(ys)) - top


def original_svg(image: ShownImage, shown_px: float, key: str) -> tuple[str, ScaleBar]:
    """The image as stored, with a scale bar below.

    Args:
        shown_px: CSS pixels per source pixel.
        key: names its pixels in the page.
    """
    pixels = eight_bit(image.pixels)
    height, width = pixels.shape[:2]
    bar = ScaleBar.of(width, image.um_per_px)
    gap = 12 / shown_px
    parts = [
        f'<image id="{key}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{_reduced(pixels)}"/>',
        _bar(bar, 0, height + gap / 3, gap / 3),
    ]
    return _svg("original", (0, 0, width, height + gap), shown_px, parts), bar


def outlines_svg(image: ShownImage, patch_px: int, shown_px: float, key: str) -> str:
    """The image on its background, the organism's box (dashed), the outline of every view.

    A dot marks the corner where a view's first pixel lies: it tells how the view is turned and mirrored.
    """
    left, top, width, height = frame = frame_of(image, patch_px)
    box_top, box_left, box_bottom, box_right = image.box
    parts = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{_background(image)}"/>',
        f'<use href="#{key}"/>',
        f'<rect class="box" x="{box_left}" y="{box_top}" width="{box_right - box_left}" '
        f'height="{box_bottom - box_top}"/>',
    ]
    for view in reversed(image.views):  # the globals last, on top
        parts.append(_outline(view.parameters, patch_px, shown_px))
    return _svg(f"the original and {len(image.views)} views", frame, shown_px, parts)


def view_svg(view: ShownView, greys: Greys, shown_px: float, key: str) -> tuple[str, ScaleBar]:
    """A view as the model gets it, with a scale bar below. `key` names its pixels in the page."""
    height, width = view.values_hwC.shape[:2]
    pixels = greys.bytes_of(view.values_hwC)
    uri = png_uri(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    bar = ScaleBar.of(width, view.parameters.um_per_px)
    gap = 12 / shown_px
    parts = [
        f'<image id="{key}" width="{width}" height="{height}" href="{uri}"/>',
        _bar(bar, 0, height + gap / 3, gap / 3),
    ]
    return _svg(view.parameters.name, (0, 0, width, height + gap), shown_px, parts), bar


def mask_svg(view: ShownView, patch_px: int, shown_px: float, key: str) -> str:
    """The same pixels under the patches that are hidden from the student."""
    height, width = view.values_hwC.shape[:2]
    hidden = [] if view.mask is None else np.argwhere(view.mask).tolist()
    path = "".join(f"M{c * patch_px} {r * patch_px}h{patch_px}v{patch_px}h-{patch_px}z" for r, c in hidden)
    parts = [f'<use href="#{key}"/>', f'<path class="hidden" d="{path}"/>']
    name = f"{view.parameters.name} with its hidden patches"
    return _svg(name, (0, 0, width, height + 12 / shown_px), shown_px, parts)


def _svg(name: str, box: tuple[float, float, float, float], shown_px: float, parts: list[str]) -> str:
    x, y, width, height = box
    return (
        f'<svg role="img" aria-label="{escape(name)}" viewBox="{x} {y} {width} {_number(height)}" '
        f'width="{_number(width * shown_px)}" height="{_number(height * shown_px)}">{"".join(parts)}</svg>'
    )


def _bar(bar: ScaleBar, x: float, y: float, thick: float) -> str:
    return f'<rect class="bar" x="{x}" y="{_number(y)}" width="{bar.px:.4f}" height="{_number(thick)}"/>'


def _outline(parameters: Parameters, patch_px: int, shown_px: float) -> str:
    points = corners(parameters, patch_px)
    colour = colour_of(parameters)
    line = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    (x, y), kind = points[0], "global" if parameters.is_global else "local"
    return (
        f'<polygon class="{kind}" points="{line}" stroke="{colour}">'
        f"<title>{parameters.name}</title></polygon>"
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{_number(3.5 / shown_px)}" fill="{colour}"/>'
    )


def _background(image: ShownImage) -> str:
    levels = eight_bit(np.array(image.background, image.pixels.dtype)).tolist()
    red, green, blue = levels * 3 if len(levels) == 1 else levels
    return f"#{red:02x}{green:02x}{blue:02x}"


def _reduced(pixels: UInt8[np.ndarray, "..."]) -> str:
    factor = -(-max(pixels.shape[:2]) // LARGEST_SIDE)
    if factor > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(factor))
    return png_uri(pixels)


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
