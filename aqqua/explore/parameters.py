"""A view's plan in words that a person can judge: angle, flip, scale, contrast, colour, blur, specks, noise.

Read back from the numbers that the renderer obeys, not drawn a second time: what is shown is what was done.
Source of each formula: aqqua/plan/cut.py (affine) and aqqua/plan/views.py (_look, footprint_sigma), solved
for what was drawn; aqqua/plan/colour.py for hue and saturation. Test: tests/explore/test_parameters.py.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from aqqua.plan.colour import LUMA, quarter_turn
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import NO_FOLD

_NO_BLUR_PX = 0.01  # σ: what float32 leaves of none
_NO_CHROMA = 1e-4  # saturation: likewise


@dataclass(frozen=True)
class Parameters:
    """Of one view. An output pixel is one that the model gets."""

    is_global: bool
    number: int  # among the globals or the locals of its image, from 1
    grid: tuple[int, int]  # patch rows and columns
    map_23: Float32[np.ndarray, "2 3"]  # output px -> source px
    um_per_px: float  # of an output pixel; NaN unknown
    scale_hidden: bool  # the µm/px is kept from the model this time
    angle_deg: float  # how far the rectangle is turned in the image, clockwise, 0 to 360
    mirrored: bool
    zoom: float  # output px per source px; of a stretched view the geometric mean of both axes
    stretch: float  # zoom along the view's rows over that along its columns; 1: native
    gain: float  # contrast about the background
    offset: float  # added grey, full scale = 1
    inverted: bool
    solarized: bool
    saturation: float  # factor of the chroma; 1 where the image is grey
    hue: float  # turns, -0.5 to 0.5; 0 where the image is grey or nothing is left to turn
    sigma_source_px: float  # of the one Gaussian that the renderer applies: defocus and antialiasing
    blur_px: float  # σ of the defocus alone, output px
    specks: int  # of detritus over it
    noise: float  # σ, full scale = 1

    @property
    def name(self) -> str:
        """Names the view among those of its image, for example G1 or L8."""
        return f"{'G' if self.is_global else 'L'}{self.number}"

    @property
    def blur_um(self) -> float:
        """σ of the defocus, µm; NaN where the scale is unknown."""
        return self.blur_px * self.um_per_px


def parameters_of(pack: Pack, v: int, config: ViewConfig, channels: int, scale_hidden: bool) -> Parameters:
    """The parameters of view v of a pack.

    Args:
        config: what the pack was planned with.
        channels: of the model, 1 or 3.
        scale_hidden: whether its µm/px is kept from the model (aqqua.plan.pack.hide_scale).
    """
    crop = v // pack.n_images
    (xx, xy, _), (yx, yy, _) = pack.map_V23[v].astype(np.float64).tolist()
    across, down = 1 / math.hypot(xx, yx), 1 / math.hypot(xy, yy)
    zoom = math.sqrt(across * down)
    sigma = float(pack.sigma_V[v])
    saturation, hue = _saturation_and_hue(pack.colour_V33[v].astype(np.float64))
    return Parameters(
        is_global=crop < GLOBALS,
        number=crop + 1 if crop < GLOBALS else crop - GLOBALS + 1,
        grid=tuple(pack.grid_V2[v].tolist()),
        map_23=pack.map_V23[v],
        um_per_px=float(pack.um_per_px_V[v]),
        scale_hidden=scale_hidden,
        angle_deg=math.degrees(math.atan2(-xy, yy)) % 360,
        mirrored=xx * yy < xy * yx,
        zoom=zoom,
        stretch=across / down,
        gain=abs(float(pack.scale_V[v])) * config.std,
        offset=_offset(pack, v, config, channels),
        inverted=bool(np.signbit(pack.scale_V[v])),
        solarized=bool((pack.fold_VC[v] < NO_FOLD).any()),
        saturation=saturation,
        hue=hue,
        sigma_source_px=sigma,
        blur_px=_blur_px(sigma, zoom),
        specks=int((pack.speck_VK4[v, :, 2] > 0).sum()),
        noise=float(pack.noise_V[v]) * config.std,
    )


def _saturation_and_hue(colour_33: np.ndarray) -> tuple[float, float]:
    """From M = luma + s · (cos · C + sin · quarter turn of C), C the chroma: two traces tell both parts."""
    # The trace of the chroma's projection is 2, of a quarter turn 0, of two quarter turns -2.
    along = (float(np.trace(colour_33)) - 1) / 2
    turned = -float(np.trace(colour_33 @ quarter_turn())) / 2
    saturation = math.hypot(along, turned)
    if saturation < _NO_CHROMA:
        return 0.0, 0.0
    return saturation, math.atan2(turned, along) / (2 * math.pi)


def _offset(pack: Pack, v: int, config: ViewConfig, channels: int) -> float:
    """From bias = (background - zero + offset) / std - scale · background; the same in every channel."""
    i = int(pack.image_V[v])
    weights = np.array(LUMA if channels == 1 else (1.0, 0.0, 0.0))
    full = 65535.0 if pack.sizes.bits[i] == 16 else 255.0
    tinted = pack.colour_V33[v].astype(np.float64) @ (pack.sizes.background[i] / full)
    background = float(tinted @ weights)
    bias = float(pack.bias_VC[v].astype(np.float64) @ weights)
    level = 0.0 if config.subtract_background else background - config.mean
    return (bias + float(pack.scale_V[v]) * background) * config.std - level


def _blur_px(sigma: float, zoom: float) -> float:
    """σ of the defocus in output px, without what keeps a reduced view from aliasing."""
    shrink = min(zoom, 1.0)
    squared = sigma * sigma - 0.25 * (1 / (shrink * shrink) - 1)
    blur_px = zoom * math.sqrt(max(squared, 0.0))
    return blur_px if blur_px >= _NO_BLUR_PX else 0.0
