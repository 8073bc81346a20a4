"""Small tables of predictions and sizes, as the verbs write them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aqqua.downstream.predictions import KEPT, Predictions, PredictionsWriter
from aqqua.downstream.size.table import COLUMNS, open_sizes
from aqqua.downstream.tables import Table, new_table, schema_of
from aqqua.store.content import image_key
from aqqua.store.schema import SCHEMA
from aqqua.taxonomy.classes import TaxonClass, lineage_of

DATASET = "d" * 64
FACTS = {"model_sha256": "m" * 64, "dataset_sha256": DATASET, "classifier_name": "made", "command": "made"}
DIATOM = TaxonClass(
    "Thalassiosira", 148912, lineage_of(["Chromista", "Heterokontophyta", "Bacillariophyceae"])
)
DINO = TaxonClass("Tripos", 495363, lineage_of(["Chromista", "Myzozoa", "Dinophyceae"]))
COPEPOD = TaxonClass("Calanoida", 1100, lineage_of(["Animalia", "Arthropoda", "Copepoda", "Calanoida"]))
DETRITUS = TaxonClass("detritus", None, lineage_of([]), "detritus", False, False)
BUBBLE = TaxonClass("bubble", None, lineage_of([]), "bubble", False, False)
CLASSES = (DIATOM, DINO, COPEPOD, DETRITUS, BUBBLE)

WHEN = datetime(2024, 5, 1, 12, tzinfo=UTC)


def image(number: int, **values: Any) -> dict[str, Any]:
    """What a dataset says of an image."""
    name = f"made/image{number:05}"
    known = {
        **{"image_id": name, "key": image_key(name), "instrument": "IFCB", "sample": "s1", "group": "g"},
        **{"time": WHEN, "lat": 54.0, "lon": 8.0, "depth_m": 5.0, "volume_l": 0.005, "um_per_px": 0.5},
        **{"source": "made", "label": None, "label_status": "unlabelled"},
    }
    return {**known, **values}


def predictions(
    path: Path,
    images: Sequence[Mapping[str, Any]],
    scores: np.ndarray,
    classes: Sequence[TaxonClass] = CLASSES,
) -> Predictions:
    table = pa.Table.from_pylist(list(images), schema=pa.schema([SCHEMA.field(name) for name in KEPT]))
    with PredictionsWriter(path, classes, FACTS) as writer:
        writer.write(table, np.asarray(scores, np.float32))
    return Predictions.open(path)


def certain(numbers: Sequence[int], classes: int = len(CLASSES)) -> np.ndarray:
    """Scores that are sure of these classes."""
    return np.eye(classes, dtype=np.float32)[list(numbers)]


def size(row: Mapping[str, Any], volume_um3: float | None, **values: Any) -> dict[str, Any]:
    """Of a ball with this volume; None: nothing is known."""
    names = [name for name, _, _, _ in COLUMNS]
    known: dict[str, Any] = {**dict.fromkeys(names), "image_id": row["image_id"], "key": row["key"]}
    known |= {"method": "border noise", "flag": "scale unknown"}
    if volume_um3 is not None:
        esd = (6 * volume_um3 / np.pi) ** (1 / 3)
        area = np.pi / 4 * esd**2
        known |= dict.fromkeys(["esd_um", "major_um", "minor_um", "feret_um"], esd)
        known |= {f"volume_{name}_um3": volume_um3 for name in ("sphere", "prolate", "moberg_sosik")}
        # A scale at which this area is 100 whole pixels.
        known |= {"area_um2": area, "area_px": 100, "um_per_px": np.sqrt(area / 100), "flag": ""}
    return {**known, **values}


def sizes(path: Path, rows: Sequence[Mapping[str, Any]], dataset: str = DATASET) -> Table:
    schema = schema_of(COLUMNS, {"dataset_sha256": dataset, "command": "made"})
    with new_table(path, schema, "sizes") as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))
    return open_sizes(path)
