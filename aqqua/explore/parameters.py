"""A view's plan in words that a person can judge: angle, flip, scale, contrast, blur, noise.

Read back from the numbers that the renderer obeys, not drawn a second time: what is shown is what was done.
Source of each formula: aqqua/plan/cut.py (affine) and aqqua/plan/views.py (_look, footprint_sigma), solved
for what was drawn. Test: tests/explore/test_parameters.py.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.render.reference import LUMA

_NO_BLUR_PX = 0.01  # σ: what float32 leaves of none


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
    zoom: float  # output px per source px
    gain: float  # contrast about the background
    offset: float  # added grey, full scale = 1
    inverted: bool
    sigma_source_px: float  # of the one Gaussian that the renderer applies: defocus and antialiasing
    blur_px: float  # σ of the defocus alone, output px
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
    zoom = 1 / math.hypot(xy, yy)
    sigma = float(pack.sigma_V[v])
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
        gain=abs(float(pack.scale_V[v])) * config.std,
        offset=_offset(pack, v, config, channels),
        inverted=bool(np.signbit(pack.scale_V[v])),
        sigma_source_px=sigma,
        blur_px=_blur_px(sigma, zoom),
        noise=float(pack.noise_V[v]) * config.std,
    )


def _offset(pack: Pack, v: int, config: ViewConfig, channels: int) -> float:
    """From bias = (level + offset) / std - scale · background; the same in every channel."""
    i = int(pack.image_V[v])
    weights = np.array(LUMA if channels == 1 else (1.0, 0.0, 0.0))
    full = 65535.0 if pack.sizes.bits[i] == 16 else 255.0
    background = float(pack.sizes.background[i] / full @ weights)
    bias = float(pack.bias_VC[v].astype(np.float64) @ weights)
    level = 0.0 if config.subtract_background else background - config.mean
    return (bias + float(pack.scale_V[v]) * background) * config.std - level


def _blur_px(sigma: float, zoom: float) -> float:
    """σ of the defocus in output px, without what keeps a reduced view from aliasing."""
    shrink = min(zoom, 1.0)
    squared = sigma * sigma - 0.25 * (1 / (shrink * shrink) - 1)
    blur_px = zoom * math.sqrt(max(squared, 0.0))
    return blur_px if blur_px >= _NO_BLUR_PX else 0.0
