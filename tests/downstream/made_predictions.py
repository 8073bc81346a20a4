"""Classes, rows of a dataset and scores that are made up."""

import numpy as np
import pyarrow as pa

from aqqua.downstream.predictions import KEPT
from aqqua.store.schema import SCHEMA
from aqqua.taxonomy.classes import TaxonClass

LINEAGE = ("Animalia", "Arthropoda", "Copepoda", None, None, None, None)
CLASSES = (
    TaxonClass("Copepoda", 1080, LINEAGE),
    TaxonClass("Copepoda (egg)", 1080, LINEAGE, qualifier="egg"),
    TaxonClass("detritus", None, (None,) * 7, qualifier="detritus", living=False, plankton=False),
)


def made_rows(count: int, first: int = 0) -> pa.Table:
    """Columns of a dataset, unlabelled, most of them unknown."""
    number = np.arange(first, first + count)
    words = {name: pa.array([f"{name}{n % 3}" for n in number]) for name in ("instrument", "sample", "group")}
    given = {
        "image_id": pa.array([f"made/image{n}" for n in number]),
        "key": pa.array(number.astype(np.uint64)),
        "lat": pa.array(number / 1e3),
        "source": pa.array(["bin.roi"] * count),
        "label_status": pa.array(["unlabelled"] * count),
        **{name: column.dictionary_encode() for name, column in words.items()},
    }
    columns = [given.get(name, pa.nulls(count, SCHEMA.field(name).type)) for name in KEPT]
    return pa.table(columns, names=list(KEPT))


def made_scores(count: int, seed: int = 0) -> np.ndarray:
    """Probabilities of CLASSES."""
    return np.random.default_rng(seed).dirichlet([1, 0.5, 0.2], count).astype(np.float32)
