"""Microplankton, drawn: what an imaging cytometer sees. Each function draws one cell or chain, about 1 long.

The proportions follow what textbooks of marine phytoplankton show; nothing is traced from an image.
Every function takes a generator, so that no two cells are alike. Densities: 0 clear, 1 opaque.
"""

import math

import numpy as np

from aqqua.sample.sketch import Sketch, arc, blob, ellipse, rounded_box, tube


def centric_diatom(rng: np.random.Generator) -> Sketch:
    """A disc with a double rim and radial rows of pores; one in four lies on its side."""
    sketch = Sketch()
    if rng.random() < 0.25:
        height = rng.uniform(0.18, 0.3)
        sketch.shell(rounded_box(0, 0, 0.5, height), 0.22, 0.75, 0.02)
        sketch.line(np.array([[-0.48, 0.0], [0.48, 0.0]]), 0.02, 0.4)
    else:
        sketch.shell(ellipse(0, 0, 0.5, 0.5, 40), 0.28, 0.8, 0.03)
        sketch.shell(ellipse(0, 0, 0.43, 0.43, 36), 0.2, 0.42, 0.012)
        inner = rng.uniform(0.05, 0.14)
        for turn in np.linspace(0, 2 * math.pi, int(rng.integers(14, 34)), endpoint=False):
            direction = np.array([math.cos(turn), math.sin(turn)])
            sketch.line(np.stack([direction * inner, direction * 0.43]), 0.01, 0.38)
        sketch.fill(ellipse(0, 0, inner, inner, 14), rng.uniform(0.15, 0.6))
    for _ in range(int(rng.integers(4, 14))):
        x, y = rng.uniform(-0.27, 0.27, 2) * np.array([1.2, 0.6])
        sketch.fill(blob(rng, x, y, rng.uniform(0.02, 0.06), 0.3, 9), rng.uniform(0.45, 0.75))
    return sketch


def pennate_diatom(rng: np.random.Generator) -> Sketch:
    """A boat or a slender S with a raphe and two plates of chloroplast."""
    sketch = Sketch()
    axis = np.stack([np.linspace(-0.5, 0.5, 25), np.zeros(25)], axis=1)
    axis[:, 1] = rng.choice([0.0, 0.06]) * np.sin(axis[:, 0] * 2 * math.pi)
    half = rng.uniform(0.045, 0.13)
    widths = half * np.cos(np.linspace(-1, 1, 9) * math.pi / 2) ** rng.uniform(0.4, 0.9) + 0.004
    sketch.shell(tube(axis, widths), 0.2, 0.78, 0.013)
    for side in (-1, 1):
        plate = axis[4:-4] + np.array([0, side * half * 0.45])
        sketch.fill(tube(plate, half * rng.uniform(0.2, 0.4) * np.array([0.4, 1, 0.7, 1, 0.4])), 0.58)
    sketch.line(axis[2:-2], 0.008, 0.45)
    sketch.fill(ellipse(0, 0, half * 0.5, half * 0.6, 10), 0.3)
    return sketch


def chaetoceros(rng: np.random.Generator) -> Sketch:
    """A chain of box cells, each with four long bristles (setae) that sweep outward."""
    sketch = Sketch()
    cells = int(rng.integers(3, 12))
    pitch = 1 / cells
    half = min(pitch * rng.uniform(0.45, 0.9), 0.16)
    centre = arc((-0.5, 0.0), 0.0, 1.0, rng.normal(0, 0.35), cells)
    reach = rng.uniform(0.15, 0.4)
    gape = rng.uniform(0.6, 1.4)
    for i, (x, y) in enumerate(centre[:-1] + np.diff(centre, axis=0) / 2):
        lean = 2 * (i + 0.5) / cells - 1  # the ends' bristles point away along the chain
        for side in (-1, 1):
            for way in (-1, 1):
                heading = side * (math.pi / 2 - 0.6 * lean - way * 0.35 * gape)
                start = (x + way * pitch * 0.42, y + side * half)
                sketch.line(
                    arc(start, heading, reach * rng.uniform(0.7, 1.1), -side * lean * 0.7, 7), 0.004, 0.42
                )
        sketch.shell(rounded_box(x, y, pitch * 0.44, half, 5), 0.3, 0.72, 0.012)
        sketch.fill(blob(rng, x, y, min(half, pitch * 0.4) * 0.7, 0.22, 11), rng.uniform(0.5, 0.8))
    return sketch


def bead_chain(rng: np.random.Generator) -> Sketch:
    """Thalassiosira: round or drum-shaped cells on a thread, with gaps between."""
    sketch = Sketch()
    cells = int(rng.integers(3, 13))
    along = 0.5 / cells * rng.uniform(0.45, 0.8)
    across = along * rng.uniform(0.9, 1.7)
    centre = arc((-0.5, 0.0), -0.2, 1.0, rng.normal(0.3, 0.5), cells)
    sketch.line(centre, 0.006, 0.4)
    for x, y in centre[:-1] + np.diff(centre, axis=0) / 2:
        sketch.shell(rounded_box(x, y, along, across, 3.2), 0.34, 0.82, 0.014)
        for _ in range(4):
            dx, dy = rng.uniform(-0.6, 0.6, 2) * np.array([along, across])
            sketch.fill(blob(rng, x + dx, y + dy, along * 0.33, 0.3, 8), rng.uniform(0.55, 0.8))
    return sketch


def guinardia(rng: np.random.Generator) -> Sketch:
    """A pipe of long clear cells joined end to end, freckled with chloroplasts."""
    sketch = Sketch()
    cells = int(rng.integers(2, 6))
    half = rng.uniform(0.04, 0.1)
    axis = arc((-0.5, 0.0), 0.0, 1.0, rng.normal(0, 0.3), 24)
    sketch.shell(tube(axis, np.full(2, half)), 0.13, 0.66, 0.01)
    for cut in np.linspace(0, 24, cells + 1)[1:-1].astype(int):
        x, y = axis[cut]
        sketch.line(np.array([[x, y - half], [x + 0.01, y + half]]), 0.014, 0.7)
    for _ in range(int(rng.integers(18, 46))):
        x, y = axis[rng.integers(1, 24)] + rng.uniform(-0.8, 0.8, 2) * np.array([0.03, half])
        sketch.fill(blob(rng, x, y, half * rng.uniform(0.12, 0.26), 0.3, 7), rng.uniform(0.45, 0.75))
    return sketch


def ceratium(rng: np.random.Generator) -> Sketch:
    """An armoured body with a girdle, one horn forward and two that curve backward."""
    sketch = Sketch()
    half = rng.uniform(0.1, 0.17)
    spread = rng.uniform(0.3, 0.9)
    sketch.fill(
        tube(arc((0.08, 0.0), 0.0, 0.5, rng.normal(0, 0.12)), np.array([0.06, 0.022, 0.016, 0.012])), 0.6
    )
    for side, long in ((-1, rng.uniform(0.35, 0.6)), (1, rng.uniform(0.2, 0.5))):
        horn = arc((-0.12, side * half * 0.6), math.pi + side * 0.5, long, -side * spread * 2.2)
        sketch.fill(tube(horn, np.array([0.05, 0.026, 0.018, 0.008])), 0.6)
    body = np.array([[0.22, 0.03], [0.05, 1 * half], [-0.1, 0.95 * half], [-0.19, 0.5 * half]])
    outline = np.concatenate([body, body[::-1] * np.array([1, -1])])
    sketch.shell(outline, 0.62, 0.82, 0.016)
    sketch.line(np.array([[0.04, -half], [-0.02, 0.0], [0.04, half]]), 0.028, 0.32)
    for _ in range(6):
        x, y = rng.uniform(-0.12, 0.12), rng.uniform(-0.7, 0.7) * half
        sketch.fill(blob(rng, x, y, 0.02, 0.3, 8), rng.uniform(0.5, 0.9))
    return sketch


def gymnodinium(rng: np.random.Generator) -> Sketch:
    """A naked dinoflagellate: a dark plump cell cut by a spiral groove, with a whip of flagellum."""
    sketch = Sketch()
    half = rng.uniform(0.3, 0.42)
    slip = rng.uniform(-0.12, 0.12)
    sketch.line(arc((-0.45, 0.0), math.pi + rng.normal(0, 0.4), 0.5, rng.normal(0, 1.5)), 0.012, 0.35)
    waist = np.array([0.03, 0.7, 1.0, 0.9, 1.0, 0.95, 0.55, 0.05]) * half
    sketch.shell(tube(arc((-0.48, 0), 0.0, 0.96, 0.0, 20), waist), 0.6, 0.86, 0.035)
    sketch.line(np.array([[slip - 0.03, -half], [0.0, 0.0], [-slip + 0.03, half]]), 0.05, 0.28)
    for _ in range(int(rng.integers(6, 18))):
        x, y = rng.uniform(-0.3, 0.3), rng.uniform(-0.7, 0.7) * half
        sketch.fill(blob(rng, x, y, rng.uniform(0.03, 0.08), 0.3, 9), rng.uniform(0.45, 0.92))
    return sketch


def ciliate(rng: np.random.Generator) -> Sketch:
    """A cone with a crown of cilia; some sit in a clear vase (lorica)."""
    sketch = Sketch()
    half = rng.uniform(0.2, 0.3)
    if rng.random() < 0.4:
        vase = np.array([0.02, 0.35, 0.8, 1.0, 1.0, 1.15]) * half * 1.15
        sketch.shell(tube(arc((-0.75, 0), 0.0, 0.95, 0.0, 16), vase), 0.12, 0.6, 0.018)
    cone = np.array([0.08, 0.55, 0.9, 1.0, 0.85]) * half
    sketch.shell(tube(arc((-0.45, 0), 0.0, 0.72, 0.0, 16), cone), 0.55, 0.8, 0.025)
    for place in np.linspace(-1, 1, int(rng.integers(9, 16))):
        start = (0.27 - 0.03 * abs(place), place * half * 0.85)
        sketch.line(arc(start, place * 0.75, rng.uniform(0.14, 0.26), place * 0.8, 6), 0.012, 0.5)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(-0.2, 0.2), rng.uniform(-0.6, 0.6) * half
        sketch.fill(blob(rng, x, y, rng.uniform(0.03, 0.09), 0.25, 10), rng.uniform(0.5, 0.95))
    return sketch
