"""A dataset of two instruments and the columns of every stage of curation, made up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.columns import write_columns
from aqqua.store.read import Dataset
from aqqua.store.write import ingest


class Speck:
    """A tiny image whose pixels tell its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def load(self, _tree: Tree) -> np.ndarray:
        return np.array([[255, self.number % 256, self.number // 256]], np.uint8)


def make_dataset(folder: Path, images: int = 300, **of: Callable[[int], Any]) -> Dataset:
    """Images 0, 1, ... in blocks of 64; `of` gives fields of their records by number."""
    values: dict[str, Callable[[int], Any]] = {"instrument": lambda i: ("IFCB", "ISIIS")[i % 3 == 0], **of}
    records = (
        Record(
            object_id=f"{i}", pixels=Speck(i), um_per_px=None, sample="s", group=f"g{i}", source=f"{i}.png",
            **{name: value(i) for name, value in values.items()},
        )
        for i in range(images)
    )  # fmt: skip
    ingest([(Tree(root=Path("specks"), label="specks"), records)], folder, block_rows=64, workers=1)
    return Dataset.open(folder)


def numbers(dataset: Dataset, block: int) -> list[int]:
    """Which of the images 0, 1, ... lie in a block."""
    names = dataset.table(["image_id"], blocks=[block])["image_id"].to_pylist()
    return [int(name.split("/")[1]) for name in names]


def make_columns(
    folder: Path,
    dataset: Dataset,
    kind: str,
    of: Callable[[int], Sequence[Any]],
    fields: Sequence[pa.Field],
    facts: dict[str, Any] | None = None,
) -> Path:
    """Columns whose values `of` gives by the number of an image."""

    def table(block: int) -> pa.Table:
        rows = [of(number) for number in numbers(dataset, block)]
        return pa.table(
            {field.name: pa.array([r[i] for r in rows], field.type) for i, field in enumerate(fields)}
        )

    with write_columns(folder, dataset, kind, fields, facts or {}, "make") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table)
    return folder


def make_clusters(folder: Path, dataset: Dataset, of: Callable[[int], Sequence[int]]) -> Path:
    """Clusters of each image by its number, the finest first."""
    levels = len(of(0))
    fields = [pa.field(f"cluster_{level + 1}", pa.int32(), False) for level in range(levels)]
    return make_columns(folder, dataset, "clusters", of, fields)


def make_duplicates(folder: Path, dataset: Dataset, of: Callable[[int], str | None]) -> Path:
    """`duplicate_of` of each image by its number."""
    fields = [pa.field("duplicate_of", pa.string()), pa.field("duplicate_kind", pa.string())]
    return make_columns(folder, dataset, "duplicates", lambda i: (of(i), of(i) and "near"), fields)


def make_contamination(folder: Path, dataset: Dataset, near: Callable[[int], bool]) -> Path:
    """`near_evaluation` of each image by its number."""
    fields = [pa.field("near_evaluation", pa.bool_(), False), pa.field("evaluation_id", pa.string())]
    return make_columns(folder, dataset, "contamination", lambda i: (near(i), None), fields)
