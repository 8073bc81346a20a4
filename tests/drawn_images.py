"""Datasets of drawn images: spots of all sizes, grey and colour, 8 and 16 bit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

BLOCK = 16


@dataclass(frozen=True)
class Drawn:
    """Pixels that are in memory already."""

    array: np.ndarray

    def load(self, _tree: Tree) -> np.ndarray:
        return self.array


def blob(number: int) -> np.ndarray:
    """A dark spot on a bright ground: every side from 1 to 60 px, grey and colour, 8 and 16 bit."""
    draw = np.random.default_rng(number)
    height, width = draw.integers(1, 61, 2)
    y, x = np.mgrid[:height, :width]
    spot = np.exp(-(((y - height / 2) / 6) ** 2 + ((x - width / 3) / 9) ** 2))
    image = 200 - 150 * spot * draw.uniform(0.5, 1) + draw.normal(0, 3, (height, width))
    if number % 3 == 0:
        image = np.stack([image, image * 0.8, image * 0.6], axis=2)
    return (image * 257).astype("<u2") if number % 4 == 1 else image.astype(np.uint8)


def make_dataset(folder: Path, arrays: list[np.ndarray], block_rows: int = BLOCK) -> Dataset:
    records = [
        Record(
            object_id=f"image{i:03}",
            pixels=Drawn(array),
            instrument="UVP6" if i % 2 else "IFCB",
            um_per_px=3.4 if i % 3 else None,
            sample="s",
            group=f"g{i // 4}",
            label=f"class{i % 5}",
            label_status="folder",
        )
        for i, array in enumerate(arrays)
    ]
    found = (Tree(root=Path("made"), label="made"), iter(records))
    ingest([found], folder, block_rows=block_rows, workers=1)
    return Dataset.open(folder)
