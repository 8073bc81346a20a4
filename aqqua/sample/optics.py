"""From optical density to the grey levels of an instrument: focus, light, background, noise.

The look follows what was measured on public sets of each instrument: IFCB dark on a grey that
varies per bin, with bright halos; ZooScan on white; UVP6 bright on black; ISIIS a flattened
shadowgraph with a background of exactly 255.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from aqqua.sample.community import TAXA, draw_length_um, local_mix

Develop = Callable[[np.random.Generator, np.ndarray, float], np.ndarray]


@dataclass(frozen=True, slots=True)
class Camera:
    """One instrument's optics. Lengths in pixels unless the name says µm."""

    um_per_px: float
    window_px: tuple[float, float]  # body lengths that are imaged
    sides_px: tuple[int, int]  # least width of an ROI; side of the frame, where larger ROIs are cut
    padding_px: tuple[int, int]  # clear water around the ROI, least and most
    blur_px: tuple[float, float]  # sd of the focus blur: median, and sd of its logarithm
    oversample: int
    flow: bool  # the sheath flow turns bodies along the image's x axis
    develop: Develop  # (rng, density (H, W), background) -> uint8 (H, W) or (H, W, 3)


@dataclass(frozen=True, slots=True)
class Portrait:
    """One finished ROI: who it is, its pixels, its optical density before the camera's noise."""

    label: str
    pixels: np.ndarray  # (H, W) or, in colour, (H, W, 3) uint8
    density: np.ndarray  # (H, W) float32


def portray(rng: np.random.Generator, camera: Camera, label: str, background: float) -> Portrait:
    """Draw one organism of a taxon as the camera would see it."""
    taxon = TAXA[label]
    window_um = (camera.window_px[0] * camera.um_per_px, camera.window_px[1] * camera.um_per_px)
    length_px = draw_length_um(rng, taxon, window_um) / camera.um_per_px
    angle = rng.normal(0, 0.2) if camera.flow else rng.uniform(0, 2 * math.pi)
    padding = int(rng.integers(*camera.padding_px, endpoint=True))
    density = taxon.draw(rng).density(length_px, angle, padding, camera.oversample, camera.sides_px)
    coarse = smooth_noise(rng, density.shape, max(4.0, length_px * rng.uniform(0.05, 0.12)))
    fine = smooth_noise(rng, density.shape, max(1.7, length_px * rng.uniform(0.012, 0.03)))
    density = density * (1 + taxon.grain * rng.uniform(0.4, 1.0) * (0.6 * coarse + fine))
    density *= float(np.clip(rng.lognormal(0, 0.18), 0.5, 1.3))
    _add_specks(rng, density)
    focus = camera.blur_px[0] * float(np.exp(camera.blur_px[1] * rng.standard_normal()))
    density = blur(density, min(focus, length_px * 0.06))
    return Portrait(label, camera.develop(rng, density, background), density)


def blur(density: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur of a density map; Pillow's is many times faster than a numpy convolution."""
    image = Image.fromarray((density.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma_px)), np.float32) / 255


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], grain_px: float) -> np.ndarray:
    """Noise of unit variance at its knots, smooth over about grain_px pixels."""
    rows, columns = (math.ceil(side / grain_px) + 2 for side in shape)
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _add_specks(rng: np.random.Generator, density: np.ndarray) -> None:
    """Small debris beside the organism, in one ROI of three."""
    if rng.random() > 0.33:
        return
    height, width = density.shape
    for _ in range(int(rng.integers(1, 4))):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        reach = rng.uniform(0.6, 2.0)
        rows, columns = np.ogrid[max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6]
        dot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * reach**2))
        patch = density[max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6]
        np.maximum(patch, rng.uniform(0.2, 0.6) * dot[: patch.shape[0], : patch.shape[1]], out=patch)


def _to_grey(levels: np.ndarray) -> np.ndarray:
    return (levels + 0.5).clip(0, 255).astype(np.uint8)


def develop_ifcb(rng: np.random.Generator, density: np.ndarray, background: float) -> np.ndarray:
    """Bright field with the bright halo of a slightly wrong focus, on an uneven grey background."""
    height, width = density.shape
    halo = blur(density, 3.5)
    light = 1 - 0.86 * density + 0.55 * (halo - density).clip(0, 1)
    slope = np.linspace(-1, 1, width, dtype=np.float32) * rng.normal(0, 3)
    stripes = rng.normal(0, 0.8, (height, 1)).astype(np.float32)  # the camera's rows differ a little
    noise = rng.standard_normal(density.shape, dtype=np.float32) * 1.8
    return _to_grey((background + slope + stripes) * light + noise)


def develop_flowcam(rng: np.random.Generator, density: np.ndarray, background: float) -> np.ndarray:
    """Colour: bluish water, pigments that take blue and green light more than red."""
    pigment = np.array([0.62, 0.7, 0.95]) * rng.uniform(0.75, 1.15, 3)
    depth = (density + 0.3 * (density - blur(density, 2.0)))[..., None] * pigment.astype(np.float32)
    water = background + np.array([-13, 0, 9], np.float32)
    noise = rng.standard_normal((*density.shape, 3), dtype=np.float32) * 2.5
    return _to_grey(water * (1 - depth) + noise)


def develop_zooscan(rng: np.random.Generator, density: np.ndarray, background: float) -> np.ndarray:
    """A flatbed scan after background removal: white where clear."""
    depth = 0.78 * density ** rng.uniform(0.8, 1.1)
    noise = rng.standard_normal(density.shape, dtype=np.float32) * (1 + 7 * depth)
    grey = background * (1 - depth) + noise
    return _to_grey(np.where(depth < 0.015, background, grey))


def develop_uvp6(rng: np.random.Generator, density: np.ndarray, background: float) -> np.ndarray:
    """Side-lit particles: light scattered by the body, a glow around it, black water."""
    glow = blur(density, 2.2)
    gain = float(np.clip(rng.lognormal(0.15, 0.5), 0.5, 2.2))
    noise = np.abs(rng.standard_normal(density.shape, dtype=np.float32)) * 1.6
    return _to_grey(background + noise + 255 * gain * (0.85 * density**1.2 + 0.25 * glow**1.5))


def develop_isiis(rng: np.random.Generator, density: np.ndarray, background: float) -> np.ndarray:
    """A flattened shadowgraph: edges dark, grainy inside, everything faint set to white."""
    edge = (density - blur(density, 2.0)).clip(0, 1)
    shadow = 0.95 * density + 0.9 * edge
    shadow = shadow * (1 + 0.22 * rng.standard_normal(density.shape, dtype=np.float32))
    return _to_grey(np.where(shadow < 0.09, background, background * (1 - shadow)))


IFCB = Camera(1 / 3.4, (28, 560), (0, 800), (8, 24), (0.9, 0.4), 2, True, develop_ifcb)
FLOWCAM_WATER = 167.0  # grey of clear water
FLOWCAM = Camera(0.5544, (10, 110), (0, 400), (2, 5), (0.7, 0.4), 3, False, develop_flowcam)
ZOOSCAN = Camera(10.6, (30, 620), (0, 900), (6, 14), (0.8, 0.25), 2, False, develop_zooscan)
UVP6 = Camera(73.0, (9, 190), (78, 400), (6, 20), (0.8, 0.3), 3, False, develop_uvp6)
# ISIIS: about 55 to 68 µm/px, never stated in the released sets; the files do not say it either.
ISIIS = Camera(60.0, (16, 200), (0, 420), (5, 9), (0.55, 0.4), 3, False, develop_isiis)


def portraits(
    rng: np.random.Generator, camera: Camera, mix: Mapping[str, float], count: int, background: float
) -> Iterator[Portrait]:
    """`count` organisms of one bin, net or profile; each has its own generator, so any one can be redrawn."""
    names, probabilities = local_mix(rng, mix)
    labels = rng.choice(len(names), count, p=probabilities)
    for label, own in zip(labels, rng.spawn(count), strict=True):
        yield portray(own, camera, names[label], background)
