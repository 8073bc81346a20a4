"""Zooplankton, aggregates and artefacts, drawn: what scanners, profilers and shadowgraphs see.

As cells.py: one function draws one body, about 1 long, from a generator; nothing is traced.
"""

import math

import numpy as np

from aqqua.sample.sketch import Sketch, arc, blob, ellipse, tube


def copepod(rng: np.random.Generator) -> Sketch:
    """Seed-shaped prosome, narrow urosome with a tail fan, two long antennae, swimming legs."""
    sketch = Sketch()
    half = rng.uniform(0.11, 0.17)
    lateral = rng.random() < 0.45
    for side in (-1, 1):
        sweep = rng.uniform(0.2, 1.1)
        start = (0.42, side * half * (0.3 if lateral else 0.55))
        heading = -1.2 + side * 0.2 if lateral else side * rng.uniform(1.2, 1.9)
        antenna = arc(start, heading, rng.uniform(0.4, 0.75), side * sweep, 9)
        sketch.fill(tube(antenna, np.array([0.016, 0.01, 0.006])), 0.5)
    for i in range(int(rng.integers(3, 6))):
        side = -1 if lateral or i % 2 else 1
        start = (0.25 - 0.1 * i, side * half * 0.8)
        sketch.line(
            arc(start, side * rng.uniform(1.5, 2.4), rng.uniform(0.08, 0.2), side * 0.6, 5), 0.014, 0.5
        )
    tail = arc((-0.12, 0.0), math.pi, 0.3, rng.normal(0, 0.3), 8)
    for spread in (-0.5, -0.2, 0.2, 0.5):
        sketch.line(arc(tuple(tail[-1]), math.pi + spread, rng.uniform(0.07, 0.16), spread, 4), 0.008, 0.42)
    sketch.shell(tube(tail, half * np.array([0.42, 0.34, 0.3, 0.22])), 0.55, 0.7, 0.012)
    prosome = half * np.array([0.45, 0.8, 0.98, 1.0, 0.93, 0.75, 0.1])
    sketch.shell(tube(arc((-0.16, 0), 0.0, 0.66, rng.normal(0, 0.12), 18), prosome), 0.5, 0.75, 0.016)
    for x in np.linspace(-0.06, 0.24, 4):
        sketch.line(np.array([[x, -half * 0.9], [x - 0.02, 0.0], [x, half * 0.9]]), 0.009, 0.66)
    sketch.fill(
        blob(rng, rng.uniform(0.05, 0.2), 0, half * rng.uniform(0.3, 0.6), 0.3), rng.uniform(0.7, 0.95)
    )
    if rng.random() < 0.2:
        sketch.fill(blob(rng, -0.25, half * 0.7, half * 0.8, 0.12), 0.75)  # an egg sac
    return sketch


def nauplius(rng: np.random.Generator) -> Sketch:
    """A copepod's larva: a plump shield with three pairs of bristled limbs and one eye."""
    sketch = Sketch()
    half = rng.uniform(0.24, 0.33)
    for side in (-1, 1):
        for x, heading in ((0.25, 0.7), (0.1, 1.5), (-0.05, 2.1)):
            turn = side * (heading + rng.normal(0, 0.2))
            limb = arc((x, side * half * 0.7), turn, rng.uniform(0.22, 0.38), side * 0.5, 6)
            sketch.fill(tube(limb, np.array([0.04, 0.025, 0.015])), 0.55)
            for spread in (-0.4, 0.0, 0.4):
                sketch.line(arc(tuple(limb[-1]), turn + spread, 0.14, spread, 4), 0.008, 0.4)
    for side in (-1, 1):
        sketch.line(arc((-0.42, side * 0.03), math.pi + side * 0.2, 0.16, 0.2, 4), 0.012, 0.5)
    widths = half * np.array([0.15, 0.55, 0.9, 1.0, 0.85, 0.4])
    sketch.shell(tube(arc((-0.45, 0), 0.0, 0.85, 0.0, 18), widths), 0.45, 0.75, 0.022)
    sketch.fill(blob(rng, -0.05, 0, half * 0.5, 0.25), rng.uniform(0.6, 0.85))
    sketch.fill(ellipse(0.28, 0, 0.035, 0.035, 10), 0.95)
    return sketch


def radiolarian(rng: np.random.Generator) -> Sketch:
    """A dark core in a pale halo, with stiff spines on all sides."""
    sketch = Sketch()
    core = rng.uniform(0.07, 0.16)
    if rng.random() < 0.6:
        sketch.fill(blob(rng, 0, 0, core * rng.uniform(1.4, 2.2), 0.1), 0.16)
    spines = int(rng.choice([4, 8, 10, 16, 20]))
    for turn in np.linspace(0, 2 * math.pi, spines, endpoint=False) + rng.normal(0, 0.07, spines):
        reach = rng.uniform(0.36, 0.5)
        sketch.line(np.array([[0.0, 0.0], [reach * math.cos(turn), reach * math.sin(turn)]]), 0.014, 0.55)
    sketch.fill(blob(rng, 0, 0, core, 0.14), rng.uniform(0.65, 0.95))
    return sketch


def appendicularian(rng: np.random.Generator) -> Sketch:
    """A small dark trunk and a long flat tail, bent away from it, with a stiff rod inside."""
    sketch = Sketch()
    tail = arc((0.18, 0.0), math.pi + rng.normal(0, 0.5), 0.78, rng.normal(0, 1.3), 16)
    sketch.shell(tube(tail, rng.uniform(0.05, 0.085) * np.array([0.4, 1.0, 1.0, 0.7, 0.15])), 0.2, 0.5, 0.01)
    sketch.line(tail[:-1], 0.02, 0.62)
    trunk = rng.uniform(0.075, 0.12)
    sketch.shell(ellipse(0.26, 0.02, trunk * 1.45, trunk), 0.6, 0.75, 0.015)
    sketch.fill(blob(rng, 0.22, 0.02, trunk * 0.55, 0.2), 0.92)
    return sketch


def jellyfish(rng: np.random.Generator) -> Sketch:
    """A clear bell with canals and a hanging mouth, trailing fine tentacles."""
    sketch = Sketch()
    width, height = rng.uniform(0.2, 0.34), rng.uniform(0.18, 0.4)
    tentacles = int(rng.integers(5, 22))
    for place in np.linspace(-1, 1, tentacles):
        reach = rng.uniform(0.25, 0.65)
        curve = arc((-0.02, place * width * 0.95), math.pi + rng.normal(0, 0.2), reach, rng.normal(0, 0.9), 9)
        sketch.line(curve, 0.007, 0.4)
    turn = np.linspace(-math.pi / 2, math.pi / 2, 20)
    dome = np.stack([height * np.cos(turn) ** 0.8, width * np.sin(turn)], axis=1)
    sketch.shell(dome, 0.15, 0.55, 0.018)
    for place in np.linspace(-0.75, 0.75, int(rng.integers(3, 6))):
        canal = np.array([[height * 0.82, 0.0], [height * 0.5, place * width * 0.8], [0.0, place * width]])
        sketch.line(canal, 0.01, 0.38)
    mouth = arc((height * 0.8, 0), math.pi, height * rng.uniform(0.5, 1.1), rng.normal(0, 0.2), 7)
    sketch.fill(tube(mouth, np.array([0.05, 0.04, 0.05, 0.02])), 0.55)
    sketch.line(np.array([[0.0, -width], [-0.015, 0.0], [0.0, width]]), 0.016, 0.5)
    return sketch


def chaetognath(rng: np.random.Generator) -> Sketch:
    """An arrow worm: long clear rod, dark hooked head, paired fins, fan of a tail."""
    sketch = Sketch()
    axis = arc((-0.5, 0.0), 0.0, 1.0, rng.normal(0, 0.45), 28)
    half = rng.uniform(0.018, 0.032)
    for first, last, spread in ((0, 5, 2.3), (8, 13, 1.9), (15, 19, 1.7)):
        sketch.fill(tube(axis[first:last], half * spread * np.array([0.7, 1.0, 0.5])), 0.22)
    sketch.shell(tube(axis, half * np.array([0.3, 0.7, 1, 1, 1, 1, 1, 0.8, 0.9, 0.6])), 0.3, 0.55, 0.006)
    sketch.line(axis[6:-2], 0.008, 0.5)
    head = axis[-2]
    sketch.fill(blob(rng, head[0], head[1], half * 1.25, 0.15, 12), 0.85)
    for side in (-1, 1):
        sketch.line(arc(tuple(axis[-1]), side * 0.7, 0.04, -side * 1.2, 4), 0.006, 0.6)
    return sketch


def fish_larva(rng: np.random.Generator) -> Sketch:
    """A big eye, a dark gut, a clear tapering tail with muscle bands inside a fin fold."""
    sketch = Sketch()
    axis = arc((0.42, 0.0), math.pi, 0.92, rng.normal(0, 0.6), 26)
    half = rng.uniform(0.045, 0.075)
    sketch.fill(tube(axis[6:], half * np.array([1.0, 1.5, 1.4, 1.5, 0.9])), 0.12)
    body = half * np.array([0.55, 1.15, 1.2, 0.95, 0.75, 0.6, 0.45, 0.25, 0.1])
    sketch.shell(tube(axis, body), 0.42, 0.65, 0.01)
    for x, y in axis[9:-4:2]:
        sketch.line(
            np.array([[x - 0.01, y - half * 0.5], [x + 0.01, y], [x - 0.01, y + half * 0.5]]), 0.007, 0.58
        )
    x, y = axis[5]
    sketch.fill(blob(rng, x, y - half * 0.5, half * rng.uniform(0.6, 1.0), 0.15), rng.uniform(0.6, 0.8))
    x, y = axis[1]
    sketch.fill(ellipse(x, y + half * 0.1, half * 0.5, half * 0.5, 14), 0.97)
    return sketch


def trichodesmium(rng: np.random.Generator) -> Sketch:
    """A colony of filaments: a raft of combed hair, or a puff."""
    sketch = Sketch()
    puff = rng.random() < 0.4
    filaments = int(rng.integers(18, 45))
    for _ in range(filaments):
        if puff:
            heading = rng.uniform(0, 2 * math.pi)
            curve = arc((0.0, 0.0), heading, rng.uniform(0.3, 0.52), rng.normal(0, 0.4), 6)
        else:
            start = (-0.48 + rng.normal(0, 0.06), rng.normal(0, 0.05))
            curve = arc(start, rng.normal(0, 0.12), rng.uniform(0.75, 1.0), rng.normal(0, 0.25), 6)
        sketch.line(curve, 0.013, rng.uniform(0.45, 0.8))
    return sketch


def detritus(rng: np.random.Generator) -> Sketch:
    """Marine snow: lumps of uneven density stuck together at random, with a few threads."""
    sketch = Sketch()
    lumps = int(rng.integers(6, 44))
    stretch = np.array([1.0, rng.uniform(0.3, 1.0)])
    places = np.cumsum(rng.normal(0, 0.12, (lumps, 2)), axis=0) * stretch
    places -= places.mean(axis=0)
    reach = max(float(np.abs(places).max()), 0.08)
    places *= 0.4 / reach * rng.uniform(0.5, 1.0)
    for _ in range(int(rng.integers(0, 4))):
        start = places[rng.integers(lumps)]
        curve = arc(tuple(start), rng.uniform(0, 6.28), rng.uniform(0.2, 0.5), rng.normal(0, 1.5), 8)
        sketch.line(curve, 0.01, 0.3)
    opacity, largest = rng.uniform(0.15, 0.7), rng.uniform(0.1, 0.2)
    for radius, (x, y) in zip(np.sort(rng.uniform(0.02, largest, lumps))[::-1], places, strict=True):
        value = float(np.clip(opacity + rng.normal(0, 0.12), 0.08, 0.95))
        sketch.fill(blob(rng, x, y, radius, 0.2, 24), value)
    return sketch


def fiber(rng: np.random.Generator) -> Sketch:
    """One thread, now and then two, straight or curled."""
    sketch = Sketch()
    for _ in range(1 if rng.random() < 0.8 else 2):
        curve = arc((-0.5, rng.normal(0, 0.1)), rng.normal(0, 0.3), 1.0, rng.normal(0, 1.3), 20)
        sketch.line(curve, rng.uniform(0.008, 0.026), rng.uniform(0.45, 0.8))
    return sketch


def bubble(rng: np.random.Generator) -> Sketch:
    """A circle with a thick dark rim and a bright middle; sometimes two together."""
    sketch = Sketch()
    for x in (0.0,) if rng.random() < 0.85 else (-0.4, 0.45):
        radius = 0.5 * rng.uniform(0.8, 1.0)
        sketch.fill(ellipse(x, 0, radius, radius), 0.95)
        inner = radius * rng.uniform(0.5, 0.78)
        sketch.fill(ellipse(x, 0, inner, inner), rng.uniform(0.02, 0.2))
        sketch.fill(ellipse(x - inner * 0.4, -inner * 0.4, inner * 0.2, inner * 0.2, 10), 0.0)
    return sketch


def egg(rng: np.random.Generator) -> Sketch:
    """A clear sphere around a yolk that lies off the middle."""
    sketch = Sketch()
    sketch.shell(ellipse(0, 0, 0.5, 0.5, 32), 0.1, 0.6, 0.03)
    x, y = rng.normal(0, 0.08, 2)
    yolk = rng.uniform(0.2, 0.38)
    sketch.shell(blob(rng, x, y, yolk, 0.04, 24), rng.uniform(0.4, 0.8), 0.7, 0.02)
    return sketch
