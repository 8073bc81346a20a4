"""Measured traits of images, as people keep them: one value a row, as CSV or Parquet.

Columns object_id, trait_id, value, unit, method; `annotator` may be there and is not read. An object is an
image of the dataset by its image_id or by what stands behind its last '/'. Whatever is wrong names its row:
of a CSV file the line, of a Parquet file the row counted from 1.

Letters: N images that have a value, T traits. Test: tests/evaluate/finetune/test_trait_table.py.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from aqqua.store.read import Dataset

COLUMNS = ("object_id", "trait_id", "value", "unit", "method")
_IGNORED = ("annotator",)
_WORDS = {"true": 1.0, "false": 0.0}
AMBIGUOUS = -1


@dataclass(frozen=True)
class Measurement:
    """One row of a table."""

    row: int  # as an error names it
    object_id: str
    trait_id: str
    value: float
    unit: str
    method: str


@dataclass(frozen=True)
class Measured:
    """The traits of those images of a dataset that have any."""

    row_N: Int[np.ndarray, " N"]  # in the dataset, rising
    value_NT: Float[np.ndarray, "N T"]  # NaN where there is none
    trait_ids: tuple[str, ...]  # in the order of the table
    units: tuple[str, ...]


def read_traits(path: Path) -> list[Measurement]:
    """All rows of a table, each checked by itself.

    Raises:
        ValueError: no such file, other columns, or a row that is not whole.
    """
    table = _read(path)
    missing = [name for name in COLUMNS if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in (*COLUMNS, *_IGNORED)]
    if missing or unknown:
        got = f"no {missing[0]}" if missing else f"{unknown[0]} too"
        raise ValueError(
            f"traits: {path} must have the columns {', '.join(COLUMNS)}, got {got}; rename or remove columns"
        )
    first = 2 if path.suffix == ".csv" else 1
    columns = [table[name].to_pylist() for name in COLUMNS]
    return [_measurement(path, first + i, row) for i, row in enumerate(zip(*columns, strict=True))]


def measured(path: Path, dataset: Dataset) -> Measured:
    """A table's values by image.

    Raises:
        ValueError: an object that is not in the dataset or could be two images, a trait in two units, or two
            values of one trait of one object.
    """
    rows = read_traits(path)
    traits = list(dict.fromkeys(one.trait_id for one in rows))
    if not rows:
        raise ValueError(f"traits: {path} must hold a value at least, got no rows; add some")
    units = _units(path, rows)
    at = _rows_of_objects(path, rows, dataset)
    row_N = np.unique(np.array(at, np.int64))
    value_NT = np.full((len(row_N), len(traits)), np.nan)
    first: dict[tuple[int, str], Measurement] = {}
    for n, one in zip(np.searchsorted(row_N, at).tolist(), rows, strict=True):
        before = first.setdefault((n, one.trait_id), one)
        if before.value != one.value:
            raise ValueError(
                f"traits: {path} must have one value of {one.trait_id} for {one.object_id}, got "
                f"{before.value} in row {before.row} and {one.value} in row {one.row}; "
                "average them or take one out"
            )
        value_NT[n, traits.index(one.trait_id)] = one.value
    return Measured(row_N, value_NT, tuple(traits), tuple(units[trait] for trait in traits))


def _read(path: Path) -> pa.Table:
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"traits: the table must be a .csv or .parquet file, got {path}; convert it")
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        names = pa_csv.open_csv(path).schema.names
        words = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )
        return pa_csv.read_csv(path, convert_options=words)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"traits: {path} must be a readable table, got: {' '.join(str(error).split())[:200]}; correct it"
        ) from error


def _measurement(path: Path, row: int, fields: tuple[object, ...]) -> Measurement:
    object_id, trait_id, raw, unit, method = fields
    for name, word in (("object_id", object_id), ("trait_id", trait_id)):
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"traits: {path} row {row}: {name} must be a name, got {word!r}; fill it in")
    text = str(raw).strip().lower()
    try:
        value = _WORDS[text] if text in _WORDS else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"traits: {path} row {row}: value of {trait_id} must be a number, got {raw!r}; correct it, or "
            "leave the row out where the value is unknown"
        )
    words = ("" if word is None else str(word).strip() for word in (unit, method))
    return Measurement(row, str(object_id), str(trait_id), value, *words)


def _units(path: Path, rows: list[Measurement]) -> dict[str, str]:
    first: dict[str, Measurement] = {}
    for one in rows:
        before = first.setdefault(one.trait_id, one)
        if before.unit != one.unit:
            raise ValueError(
                f"traits: {path} must have one unit of {one.trait_id}, got {before.unit!r} in row "
                f"{before.row} and {one.unit!r} in row {one.row}; convert them to one unit"
            )
    return {trait: one.unit for trait, one in first.items()}


def _rows_of_objects(path: Path, rows: list[Measurement], dataset: Dataset) -> list[int]:
    """The dataset's row of each measurement."""
    ids = dataset.table(["image_id"])["image_id"].to_pylist()
    whole = {name: i for i, name in enumerate(ids)}
    last: dict[str, int] = {}
    for i, name in enumerate(ids):
        part = name.rpartition("/")[2]
        last[part] = AMBIGUOUS if part in last else i
    found = []
    for one in rows:
        at = whole.get(one.object_id, last.get(one.object_id))
        if at is None or at == AMBIGUOUS:
            got = "one that is not there" if at is None else "one that two images end with"
            raise ValueError(
                f"traits: {path} row {one.row}: object_id must be an image of {dataset.path}, got {got}: "
                f"{one.object_id}; write its image_id"
            )
        found.append(at)
    return found
