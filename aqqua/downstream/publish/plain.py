"""Tables for a spreadsheet or for R: CSV or Parquet, every heading with its unit, one column per score.

Test: tests/downstream/publish/test_plain.py.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aqqua.store.new_file import new_file

WHO = "plain"
ROWS = 65_536  # of a batch
# Headings that say their unit; all others of our tables do already, or have none.
HEADINGS = {
    "time": "time_utc",
    "lat": "latitude_degrees_north",
    "lon": "longitude_degrees_east",
    "depth_m": "depth_m",
    "volume_l": "sample_volume_l",
    "um_per_px": "scale_um_per_px",
    "score": "score_0_to_1",
    "aphia_id": "worms_aphia_id",
    "images": "images_counted",
}
_LEFT_OUT = ("key",)  # of our own draws: no number for people
_CLASSES = b"aqqua.classes"


def export_plain(
    table: Path,
    out: Path,
    form: Literal["csv", "parquet"],
    *,
    scores: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a table of aqqua (predictions, sizes, carbon or samples) for others; how many rows.

    Unknown is an empty cell in CSV and null in Parquet. Numbers keep all their digits.

    Args:
        table: a Parquet file of aqqua.
        out: new file.
        form: of the file.
        scores: a column `score <class>` for each class too, where the table has scores.
        progress: called with the rows done.

    Raises:
        ValueError: the table is none, has no scores, or `out` exists.
    """
    try:
        file = pq.ParquetFile(table)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{WHO}: the table must be a Parquet file of aqqua, got {table}: {error}") from error
    classes = _class_names(file.schema_arrow) if scores else []
    if scores and not classes:
        raise ValueError(f"{WHO}: the table must have scores, got none in {table}; leave out scores")
    batches = (_for_people(part, classes) for part in _batches(file))
    with new_file(out, WHO) as partial:
        write = _write_csv if form == "csv" else _write_parquet
        return write(partial, batches, _for_people(file.schema_arrow.empty_table(), classes), progress)


def _batches(file: pq.ParquetFile) -> Iterator[pa.Table]:
    for batch in file.iter_batches(ROWS):
        yield pa.Table.from_batches([batch])


def _class_names(schema: pa.Schema) -> list[str]:
    known = (schema.metadata or {}).get(_CLASSES)
    return [one["name"] for one in json.loads(known)] if known and "scores" in schema.names else []


def _for_people(table: pa.Table, classes: list[str]) -> pa.Table:
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name in table.schema.names:
        if name == "scores" or name in _LEFT_OUT:
            continue
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        columns[HEADINGS.get(name, name)] = column
    if classes:
        chunks = table["scores"].chunks
        parts = [c.flatten().to_numpy(zero_copy_only=False).reshape(len(c), len(classes)) for c in chunks]
        scores_MC = np.concatenate([np.zeros((0, len(classes)), np.float16), *parts]).astype(np.float32)
        columns |= {f"score {name}": pa.array(scores_MC[:, c]) for c, name in enumerate(classes)}
    return pa.table(columns)


def _write_csv(
    path: Path, batches: Iterator[pa.Table], empty: pa.Table, progress: Callable[[int], None] | None
) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(empty.schema.names)
        for table in batches:
            writer.writerows(zip(*(_texts(column) for column in table.columns), strict=True))
            rows += len(table)
            if progress is not None:
                progress(rows)
    return rows


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Cells: times as ISO 8601, a float32 with its own digits, unknown empty."""
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ").to_pylist()
    if pa.types.is_float32(column.type):
        return [None if v is None else str(np.float32(v)) for v in column.to_pylist()]
    return column.to_pylist()


def _write_parquet(
    path: Path, batches: Iterator[pa.Table], empty: pa.Table, progress: Callable[[int], None] | None
) -> int:
    rows = 0
    with pq.ParquetWriter(path, empty.schema, compression="zstd") as writer:
        for table in batches:
            writer.write_table(table)
            rows += len(table)
            if progress is not None:
                progress(rows)
    return rows
