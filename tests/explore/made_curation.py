"""A dataset of drawn images with all that its tables tell apart, and columns of every stage, made up."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from drawn_images import Drawn, blob

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.columns import write_columns
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

IMAGES = 100
LABELS = ("copepod", "snow", None, "snow")


def instrument(i: int) -> str:
    return "ISIIS" if i % 4 == 0 else "UVP6"


def label(i: int) -> str | None:
    return LABELS[i % 4]


def make_dataset(folder: Path, name_label: Callable[[int], str | None] = label, prefix: str = "") -> Dataset:
    """Images 0 to 99 in blocks of 16: depth 10 m of the first 30, 500 m of the next 30, then unknown."""
    records = [
        Record(
            object_id=f"{prefix}{i}", pixels=Drawn(blob(i)), instrument=instrument(i), sample="s",
            um_per_px=10.0 if instrument(i) == "UVP6" else None, group=f"g{i}", source=f"{i}.png",
            label=name_label(i), label_status="folder" if name_label(i) else "unlabelled",
            depth_m=10.0 if i < 30 else 500.0 if i < 60 else None,
            lat=50.0 if i < 50 else -50.0, lon=7.0, time=datetime(2020, 1, 1, tzinfo=UTC),
        )
        for i in range(IMAGES)
    ]  # fmt: skip
    ingest([(Tree(root=Path("made"), label="made"), iter(records))], folder, block_rows=16, workers=1)
    return Dataset.open(folder)


def rows_of(dataset: Dataset, prefix: str = "") -> dict[int, int]:
    """Row in the dataset of each image by its number."""
    names = dataset.table(["image_id"])["image_id"].to_pylist()
    return {int(name.removeprefix(f"made/{prefix}")): row for row, name in enumerate(names)}


def cluster(i: int) -> int:
    """Cluster 0 holds ISIIS's images, 2 the first 60 of the others, 3 the rest; there is none of number 1."""
    return 0 if i % 4 == 0 else 2 if i < 60 else 3


def weight(i: int) -> float:
    """Nothing for 0 to 9 and 99, 2 for ISIIS's others, else 1/2."""
    return 0.0 if i < 10 or i == 99 else 2.0 if i % 4 == 0 else 0.5


def copy_of(i: int) -> int | None:
    """Images 4, 5 and 6 are copies of 40, 50 and 60: of 5 and 50, and of 6 and 60, one label differs."""
    return 10 * i if i in (4, 5, 6) else None


def flags(i: int) -> list[str]:
    return ["tiny"] if i in (2, 3, 4) else ["blurred"] if i >= 90 else []


def make_folders(folder: Path, dataset: Dataset, prefix: str = "", flag: str = "blurred") -> dict[str, Path]:
    """Columns of every stage by kind."""
    rows = {row: i for i, row in rows_of(dataset, prefix).items()}

    def write(
        kind: str, fields: dict[str, pa.DataType], of: Callable[[int], Sequence[Any]], facts: Any
    ) -> Path:
        def table(block: int) -> pa.Table:
            values = [of(rows[16 * block + k]) for k in range(dataset.rows_of(block))]
            columns = zip(*values, strict=True)
            return pa.table({n: pa.array(c, t) for (n, t), c in zip(fields.items(), columns, strict=True)})

        schema = [pa.field(name, kind_of) for name, kind_of in fields.items()]
        with write_columns(folder / kind, dataset, kind, schema, facts, "make") as writer:
            for part in range(dataset.parts):
                writer.write_part(part, table)
        return folder / kind

    def name_of(i: int | None) -> str | None:
        return None if i is None else f"made/{prefix}{i}"

    def named(i: int) -> list[str]:
        return [flag if name == "blurred" else name for name in flags(i)]

    total = sum(map(weight, range(IMAGES)))
    config = {"flags": {"tiny": 0.0, "blurred": 0.5}, "cap": {"share": 0.1}, "strata": {"depth_m": [100.0]}}
    capped = {"clusters": [3], "number": 1, "share_of_images": 0.3, "share_of_uses": 0.1}
    facts = {"weight_sum": total, "config": config, "capped": capped}
    strings, words = pa.list_(pa.string()), pa.string()
    return {
        "weights": write(
            "weights", {"weight": pa.float32(), "stratum": words}, lambda i: (weight(i), instrument(i)), facts
        ),
        "clusters": write(
            "clusters",
            {"cluster_1": pa.int32(), "cluster_2": pa.int32(), "distance": pa.float32()},
            lambda i: (cluster(i), cluster(i) // 2, abs(i - 42) / 100),
            {},
        ),
        "duplicates": write(
            "duplicates",
            {"duplicate_of": words, "duplicate_kind": words},
            lambda i: (name_of(copy_of(i)), "near" if i == 4 else "exact" if copy_of(i) else None),
            {},
        ),
        "quality": write("quality", {"flags": strings}, lambda i: (named(i),), {}),
        "contamination": write(
            "contamination",
            {"near_evaluation": pa.bool_(), "evaluation_id": words},
            lambda i: (i < 2, name_of(70 + i) if i < 2 else None),
            {"images": {"near": 2}},
        ),
    }
