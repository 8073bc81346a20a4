"""Vectors and datasets with clusters in them that a test knows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.vectors import ArrayVectors, Prepared
from aqqua.instruments.record import Found, Record
from aqqua.instruments.tree import Tree
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

WIDTH = 16


def nested(
    supers: int = 5, of_each: int = 4, largest: int = 5000, spread: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors float16 [I, D], fine and coarse cluster of each; the largest is 1000 times the smallest."""
    draw = np.random.default_rng(seed)
    centre = draw.normal(size=(supers, WIDTH)) * 8
    fine = (centre[:, None] + draw.normal(size=(supers, of_each, WIDTH)) * 1.5).reshape(-1, WIDTH)
    sizes = np.geomspace(largest, largest / 1000, len(fine)).astype(int)
    label = draw.permutation(np.repeat(draw.permutation(len(fine)), sizes))
    x = fine[label] + draw.normal(size=(len(label), WIDTH)) * spread
    return x.astype(np.float16), label, label // of_each


def in_memory(x: np.ndarray, chunk_rows: int = 700) -> Prepared:
    return Prepared(ArrayVectors(x, chunk_rows))


def labels_of(x: np.ndarray, centroids: torch.Tensor) -> torch.Tensor:
    return Nearest(centroids)(torch.from_numpy(x).float())[0]


@dataclass(frozen=True)
class Dot:
    """One grey pixel, another for each image, so that none is a duplicate."""

    number: int

    def load(self, _tree: Tree) -> np.ndarray:
        return np.full((1, 1 + self.number % 7), self.number % 65_536, np.uint16)


def a_dataset(folder: Path, instruments: list[str], block_rows: int = 4) -> Dataset:
    """An image of each of these instruments, named by its place in the list. A part has 128 blocks."""

    def found() -> Iterator[Found]:
        for number, instrument in enumerate(instruments):
            facts = {"object_id": str(number), "pixels": Dot(number), "instrument": instrument}
            facts |= {"um_per_px": None, "sample": "", "group": ""}
            yield Record(**facts, source=f"{number}.png")  # type: ignore[arg-type]

    ingest([(Tree(root=Path("a"), label="a"), found())], folder, block_rows=block_rows, workers=1)
    return Dataset.open(folder)


def embedded(dataset: Dataset, out: Path, vector_of: Callable[[int], np.ndarray]) -> Columns:
    """Embeddings of such a dataset: of image number i, `vector_of(i)`."""
    field = pa.field("embedding", pa.list_(pa.float16(), WIDTH), False)

    def table_of(block: int) -> pa.Table:
        rows = [vector_of(number) for number in numbers_of(dataset, block)]
        flat = np.concatenate(rows).astype(np.float16)
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(flat, WIDTH)})

    with write_columns(out, dataset, "embeddings", [field], {}, "embed") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table_of)
    return Columns.open(out, dataset, "embeddings")


def numbers_of(dataset: Dataset, block: int) -> list[int]:
    """Of a block's images."""
    return [int(name.split("/")[1]) for name in dataset.table(["image_id"], [block])["image_id"].to_pylist()]
