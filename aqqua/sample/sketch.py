"""A line drawing of one organism in body lengths, and its picture as optical density.

An organism is drawn once, in units of its own length, by fills and strokes; `density` then
turns it, scales it to any µm/px and rasterises it with antialiasing. So the same animal seen
by two instruments has the pixel size that each of them would give it.

Density: 0 clear water, 1 opaque. Later strokes cover earlier ones. Letters: H, W pixels.
Test: tests/test_sample.py.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

Points = np.ndarray  # (n, 2) float64: x along the body, y across, in body lengths


@dataclass
class Sketch:
    """Strokes in painting order: points, stroke width in body lengths (None: a filled polygon), density."""

    strokes: list[tuple[Points, float | None, float]] = field(default_factory=list)

    def fill(self, points: Points, density: float) -> None:
        self.strokes.append((points, None, density))

    def line(self, points: Points, width: float, density: float) -> None:
        self.strokes.append((points, width, density))

    def shell(self, points: Points, inside: float, wall: float, wall_width: float) -> None:
        """A filled outline: a cell wall, a bell, a carapace."""
        self.fill(points, inside)
        self.line(np.concatenate([points, points[:2]]), wall_width, wall)

    def density(
        self, px_per_body: float, angle: float, padding_px: int, oversample: int, sides_px: tuple[int, int]
    ) -> np.ndarray:
        """The organism's optical density, cut to its bounding box.

        Args:
            px_per_body: pixels of one body length.
            angle: turn of the body's axis, radians.
            padding_px: clear water on each side.
            oversample: subpixels per pixel side.
            sides_px: the least width, and the frame's side: what is larger is cut, as a camera does.

        Returns:
            (H, W) float32 in 0..1.
        """
        scale = px_per_body * oversample
        turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        turned = [points @ turn for points, _, _ in self.strokes]
        everything = np.concatenate(turned)
        low, high = everything.min(axis=0), everything.max(axis=0)
        width, height = (
            min(math.ceil(extent / oversample) + 2 * padding_px + 1, sides_px[1])
            for extent in (high - low).tolist()
        )
        width = max(width, sides_px[0])
        shift = np.array([width, height]) * oversample / 2 - (low + high) / 2
        canvas = Image.new("L", (width * oversample, height * oversample))
        pen = ImageDraw.Draw(canvas)
        for points, (_, stroke_width, value) in zip(turned, self.strokes, strict=True):
            path = (points + shift).ravel().tolist()
            if stroke_width is None:
                pen.polygon(path, fill=round(255 * value))
            else:
                # A hair thinner than a subpixel still scatters light: it is drawn one wide.
                pen.line(path, fill=round(255 * value), width=max(1, round(stroke_width * scale)))
        return np.asarray(canvas.reduce(oversample), np.float32) / 255


def ellipse(x: float, y: float, along: float, across: float, corners: int = 28) -> Points:
    """Ellipse with half-axes `along` x and `across` y."""
    turn = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return np.stack([x + along * np.cos(turn), y + across * np.sin(turn)], axis=1)


def rounded_box(x: float, y: float, along: float, across: float, power: float = 4.0) -> Points:
    """Superellipse: a box with rounded corners; power 2 is an ellipse, large is a rectangle."""
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.stack(
        [
            x + along * np.sign(cosine) * np.abs(cosine) ** (2 / power),
            y + across * np.sign(sine) * np.abs(sine) ** (2 / power),
        ],
        axis=1,
    )


def blob(
    rng: np.random.Generator, x: float, y: float, radius: float, rough: float, corners: int = 20
) -> Points:
    """An irregular smooth outline; rough 0 is a circle, 0.5 is ragged."""
    turn = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    waves = np.arange(2, max(4, corners // 3))
    strengths = rough * rng.standard_normal(len(waves)) / np.sqrt(waves)
    phases = rng.uniform(0, 2 * math.pi, len(waves))
    radii = radius * np.clip(1 + strengths @ np.cos(np.outer(waves, turn) + phases[:, None]), 0.25, 2.0)
    return np.stack([x + radii * np.cos(turn), y + radii * np.sin(turn)], axis=1)


def arc(start: tuple[float, float], heading: float, length: float, bend: float, steps: int = 10) -> Points:
    """A curve of constant bending from `start`, first towards `heading`, turning by `bend` radians in all."""
    turn = heading + bend * np.linspace(0, 1, steps)
    moves = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (length / steps)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(moves, axis=0)])


def tube(axis: Points, half_widths: np.ndarray, steps: int = 26) -> Points:
    """Outline of a body along a curved axis; half_widths are spread evenly along it and smoothed."""
    place = np.linspace(0, 1, steps)
    knots = np.linspace(0, 1, len(axis))
    axis = np.stack([np.interp(place, knots, axis[:, 0]), np.interp(place, knots, axis[:, 1])], axis=1)
    along = np.gradient(axis, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    halves = np.interp(place, np.linspace(0, 1, len(half_widths)), half_widths)
    halves[1:-1] = 0.25 * halves[:-2] + 0.5 * halves[1:-1] + 0.25 * halves[2:]
    halves[2:-2] = 0.25 * halves[1:-3] + 0.5 * halves[2:-2] + 0.25 * halves[3:-1]
    return np.concatenate([axis + across * halves[:, None], (axis - across * halves[:, None])[::-1]])
