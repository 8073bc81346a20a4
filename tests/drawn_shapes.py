"""A dataset of disks and rods, which a tiny model tells apart in seconds, with their lengths as a trait."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drawn_images import Drawn

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.sample.sketch import Sketch, ellipse, rounded_box
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

DENSITY = 0.8


@dataclass(frozen=True)
class Shape:
    """One drawn organism."""

    label: str
    length_px: float
    picture: np.ndarray


def shape(number: int, label: str) -> Shape:
    """A disk or a rod of some length and direction, dark on a bright ground."""
    draw = np.random.default_rng(number)
    length, angle = draw.uniform(14, 40), draw.uniform(0, np.pi)
    sketch = Sketch()
    sketch.fill(ellipse(0.0, 0.0, 0.5, 0.5) if label == "disk" else rounded_box(0.0, 0.0, 0.5, 0.12), DENSITY)
    density = sketch.density(length, angle, 3, 2, (8, 64))
    grey = 220 * (1 - density) + draw.normal(0, 2, density.shape)
    return Shape(label, length, grey.clip(0, 255).astype(np.uint8))


def shapes(count: int) -> list[Shape]:
    """So many shapes, about half of them rods, in an order that repeats."""
    draw = np.random.default_rng(count).random(count)
    return [shape(i, "rod" if draw[i] < 0.5 else "disk") for i in range(count)]


def shapes_dataset(folder: Path, of: list[Shape], block_rows: int = 16) -> Dataset:
    """Their dataset: ten images a group, object ids shape000, shape001, ..."""
    records = (
        Record(
            object_id=f"shape{i:03}", pixels=Drawn(one.picture), instrument="IFCB", um_per_px=2.0,
            sample=f"s{i // 20}", group=f"g{i // 10}", label=one.label, label_status="validated",
        )
        for i, one in enumerate(of)
    )  # fmt: skip
    ingest([(Tree(root=Path("made"), label="made"), iter(records))], folder, block_rows=block_rows, workers=1)
    return Dataset.open(folder)
