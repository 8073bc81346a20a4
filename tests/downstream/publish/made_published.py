"""A small dataset with all that is hard to hand on, and the tables that belong to it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.downstream.class_list import classes_to_json
from aqqua.downstream.predictions import predictions_schema
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest
from aqqua.taxonomy.classes import TaxonClass

CLASSES = [
    TaxonClass(
        "Calanoida", 1100,
        ("Animalia", "Arthropoda", "Copepoda", "Calanoida", None, None, None),
    ),
    TaxonClass(
        "Copepoda (egg)", 1080,
        ("Animalia", "Arthropoda", "Copepoda", None, None, None, None), "egg",
    ),
    TaxonClass("detritus", None, (None,) * 7, living=False, plankton=False),
]  # fmt: skip
FACTS = {
    "model_sha256": "a" * 64,
    "dataset_sha256": "b" * 64,
    "classifier_name": "tiny <1>",
    "command": "aqqua predict",
}
LID = "D20130526T095207_IFCB013"


@dataclass(frozen=True)
class Drawn:
    """Pixels of every kind that a picture file can hold."""

    number: int

    def load(self, _tree: Tree) -> np.ndarray:
        draw = np.random.default_rng(self.number)
        shape = (int(draw.integers(3, 40)), int(draw.integers(3, 40)))
        kind = self.number % 3
        dtype = np.uint16 if kind == 1 else np.uint8
        return draw.integers(0, np.iinfo(dtype).max, (*shape, 3) if kind == 2 else shape, dtype)


def a_record(number: int, **facts: Any) -> Record:
    """Image `number`: validated, predicted, of a folder, unlabelled in turn; some facts unknown."""
    status = ("validated", "predicted", "folder", "unlabelled", "dubious")[number % 5]
    known = {
        "object_id": f"{LID}_{number + 1:05d}",
        "pixels": Drawn(number),
        "instrument": ("IFCB", "UVP6", "my own imager")[number % 3],
        "um_per_px": (None, 0.2941, 73.0, 0.15)[number % 4],
        "sample": f"tow é{number // 4}",
        "group": f"bin{number // 2}",
        "time": None if number % 7 == 3 else datetime(2013, 5, 26, 9, 52, 7, number * 1000, UTC),
        "lat": -43.1234567 + number,
        "lon": 1e-5 if number == 2 else 7.5 + number,
        "depth_m": None if number % 5 == 4 else 10.1 + number,
        "volume_l": None if number % 4 == 1 else 0.00475 + number // 4,
        "label": None if status == "unlabelled" else ("Calanoida", 'odd "name"', "µ-flagellé")[number % 3],
        "label_status": status,
        "aphia_id": 1100 if number % 3 == 0 and status != "unlabelled" else None,
        "licence": "CC-BY-4.0" if number % 2 else None,
        "source": f"folder/{number}.png",
    }
    return Record(**{**known, **facts})


def a_dataset(folder: Path, records: list[Record]) -> Dataset:
    """The records as a dataset; their ids begin with `cruise/`."""
    ingest([(Tree(root=Path("cruise"), label="cruise"), iter(records))], folder, workers=1)
    return Dataset.open(folder)


def prediction_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """A made-up prediction of every image."""
    wanted = (
        *("image_id", "key", "instrument", "sample", "group", "time", "lat", "lon", "depth_m", "volume_l"),
        *("um_per_px", "source", "label", "label_status"),
    )
    rows = dataset.table(wanted).to_pylist()
    for row in rows:
        scores = np.random.default_rng(row["key"] % 2**32).dirichlet([0.5] * len(CLASSES))
        scores = scores.astype(np.float16)
        best = CLASSES[int(scores.argmax())]
        row |= {
            "class": best.name, "aphia_id": best.aphia_id, "qualifier": best.qualifier,
            "living": best.living, "score": np.float32(scores.max()), "scores": scores,
        }  # fmt: skip
    return rows


def write_predictions(path: Path, rows: list[dict[str, Any]], facts: dict[str, str] | None = None) -> Path:
    """The rows as a table of predictions. Written as they are: what aqqua predict would refuse, too."""
    schema = predictions_schema(CLASSES, {**FACTS, **(facts or {})})
    pq.write_table(as_table(rows, schema), path, row_group_size=7)
    return path


def as_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows in a schema, with lists of halves and words."""
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.concatenate(values), pa.float16())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


SIZE_NAMES = (
    *("area_um2", "esd_um", "major_um", "minor_um", "perimeter_um", "feret_um"),
    *("volume_sphere_um3", "volume_prolate_um3", "volume_moberg_sosik_um3"),
)


def write_sizes(path: Path, dataset: Dataset) -> Path:
    """Sizes of every second image, in another order than the dataset's."""
    rows = dataset.table(("image_id", "key", "um_per_px")).to_pylist()[::-2]
    for number, row in enumerate(rows):
        row |= {name: None if number == 0 else 1.5 * number + place for place, name in enumerate(SIZE_NAMES)}
        row |= {"area_px": 10 + number, "threshold": 0.2, "method": "border", "flag": "touches border"}
    pq.write_table(_table(rows, {"threshold": pa.float64()}), path, row_group_size=2)
    return path


def write_carbon(path: Path, dataset: Dataset) -> Path:
    """Carbon of every image."""
    rows = dataset.table(("image_id", "key")).to_pylist()
    for number, row in enumerate(rows):
        row |= {"class": "Calanoida", "relation": "menden-deuer-2000", "extrapolated": False}
        row |= {"carbon_pg": 10.0 + number, "carbon_low_pg": 5.0, "carbon_high_pg": 20.0}
    pq.write_table(_table(rows, {}), path)
    return path


def _table(rows: list[dict[str, Any]], kinds: dict[str, pa.DataType]) -> pa.Table:
    kinds = {"key": pa.uint64(), **kinds}
    return pa.table({name: pa.array([row[name] for row in rows], kinds.get(name)) for name in rows[0]})


SAMPLES_SCHEMA = pa.schema(
    [
        ("sample", pa.string()), ("instrument", pa.string()), ("time", pa.timestamp("ms", tz="UTC")),
        *((name, pa.float64()) for name in ("lat", "lon", "depth_m", "volume_l")),
        ("class", pa.string()), ("aphia_id", pa.int32()), ("living", pa.bool_()), ("images", pa.int64()),
        *((name, pa.float64()) for name in (
            "abundance_per_m3", "abundance_low_per_m3", "abundance_high_per_m3", "biovolume_mm3_per_m3",
            "carbon_mg_per_m3", "carbon_low_mg_per_m3", "carbon_high_mg_per_m3",
        )),
    ]
)  # fmt: skip


def sample_rows(
    sample: str, counts: tuple[int, ...], volume_l: float | None = 5.0, **facts: Any
) -> list[dict]:
    """One sample: a row per class, zeros too."""
    rows = []
    for one, images in zip(CLASSES, counts, strict=True):
        per_m3 = None if volume_l is None else images / volume_l * 1000
        known = {
            "sample": sample, "instrument": "IFCB", "time": datetime(2020, 6, 1, 12, tzinfo=UTC),
            "lat": 60.2, "lon": 20.3, "depth_m": 5.0, "volume_l": volume_l,
            "class": one.name, "aphia_id": one.aphia_id, "living": one.living, "images": images,
            "abundance_per_m3": per_m3,
            "abundance_low_per_m3": None if per_m3 is None else 0.5 * per_m3,
            "abundance_high_per_m3": None if per_m3 is None else 1.5 * per_m3,
            "biovolume_mm3_per_m3": None if per_m3 is None else 0.1 * per_m3,
            "carbon_mg_per_m3": None if per_m3 is None else 0.01 * per_m3,
            "carbon_low_mg_per_m3": None if per_m3 is None else 0.005 * per_m3,
            "carbon_high_mg_per_m3": None if per_m3 is None else 0.02 * per_m3,
        }  # fmt: skip
        rows.append({**known, **facts})
    return rows


def write_samples(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a table of samples."""
    about = {"aqqua.classes": classes_to_json(CLASSES), "aqqua.relations": "[]"}
    about |= {f"aqqua.{name}": value for name, value in FACTS.items()}
    table = pa.Table.from_pylist(rows, SAMPLES_SCHEMA).replace_schema_metadata(about)
    pq.write_table(table, path)
    return path
