"""The AqQua release form: its metadata table, and writing a release.

The layout is described in aqqua.instruments.lmdb. Every field of a Record has its column, so that
what is written reads back equal, except for `pixels`, which then points into the database.
"""

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.instruments.lmdb_file import DATA_NAME, LmdbImage
from aqqua.instruments.lmdb_frame import pack_frame
from aqqua.instruments.ranges import APHIA_ID, DEPTH_M, LATITUDE, LONGITUDE, VOLUME_L
from aqqua.instruments.record import LabelStatus, ReadOptions, Record, RejectedInputError
from aqqua.instruments.registry import UM_PER_PX_RANGE, facts
from aqqua.instruments.tree import Tree

LAYOUT = "aqqua-release"
VERSION = 1
RELEASE_NAME = "release.json"
METADATA_NAME = "metadata.parquet"
WRITE_ROWS = 1000  # per transaction and row group
FIRST_MAP_BYTES = 64 << 20  # doubled when full
MAX_KEY_BYTES = 511  # of LMDB

SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),  # the key in data.mdb
        pa.field("instrument", pa.string(), nullable=False),
        pa.field("um_per_px", pa.float64()),
        pa.field("sample", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("lat", pa.float64()),
        pa.field("lon", pa.float64()),
        pa.field("depth_m", pa.float64()),
        pa.field("volume_l", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("label_status", pa.string(), nullable=False),
        pa.field("aphia_id", pa.int64()),
        pa.field("licence", pa.string()),
        pa.field("source", pa.string(), nullable=False),
    ]
)
# Limits of a Record's numbers (aqqua.instruments.record).
RANGES = {
    "um_per_px": UM_PER_PX_RANGE,
    "lat": LATITUDE,
    "lon": LONGITUDE,
    "depth_m": DEPTH_M,
    "volume_l": VOLUME_L,
    "aphia_id": APHIA_ID,
}


def metadata_rows(tree: Tree, member: str) -> Iterator[dict[str, Any]]:
    """Rows of metadata.parquet as dicts, a batch in memory at a time.

    Raises:
        RejectedInputError: missing_file; bad_table for broken Parquet or other columns.
    """
    if member not in tree.members:
        raise RejectedInputError("missing_file", f"a release needs its {METADATA_NAME}")
    try:
        with tree.open(member) as stream:
            table = pq.ParquetFile(stream)
            if not table.schema_arrow.equals(SCHEMA):
                detail = f"columns must be those of {LAYOUT} {VERSION}, got {table.schema_arrow.names}"
                raise RejectedInputError("bad_table", detail)
            for batch in table.iter_batches(WRITE_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RejectedInputError("bad_table", f"{type(error).__name__}: {error}") from error


def record_of(row: dict[str, Any], pixels: LmdbImage, options: ReadOptions) -> Record:
    """The record of a row, with what the user says in place of what the table says.

    Raises:
        ValueError: a value that cannot be true.
    """
    for name, (low, high) in RANGES.items():
        value = row[name]
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{name} must lie in {low} to {high}, got {value}")
    if row["label_status"] not in get_args(LabelStatus):
        raise ValueError(f"label_status must be one of {get_args(LabelStatus)}, got {row['label_status']!r}")
    said = {
        "instrument": options.instrument,
        "um_per_px": options.um_per_px,
        "licence": options.licence,
    }
    known = {**row, **{name: value for name, value in said.items() if value is not None}}
    if known["um_per_px"] is None:
        known["um_per_px"] = facts(known["instrument"]).um_per_px
    return Record(pixels=pixels, **known)


def write_release(folder: Path, rows: Iterable[tuple[Record, np.ndarray]]) -> int:
    """Write images and their metadata as a release; returns the number of images.

    The folder appears whole or not at all: all is written beside it and renamed at the end.

    Raises:
        FileExistsError: the folder is already there.
        ValueError: an id twice, an id no key can be, or pixels that are not an image.
        ModuleNotFoundError: without the extra `release`.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"a release must go to a new folder, got {folder}; remove it or choose another")
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        count = _write_rows(part, rows)
        said = {"layout": LAYOUT, "version": VERSION, "images": count}
        (part / RELEASE_NAME).write_text(json.dumps(said) + "\n", encoding="utf-8")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def _write_rows(part: Path, rows: Iterable[tuple[Record, np.ndarray]]) -> int:
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "writing a release needs the extra 'release'; pip install 'aqqua[release]'"
        ) from error
    count = 0
    # Only one process writes, into a folder nobody knows yet: no lock file is left behind.
    with (
        lmdb.open(str(part / DATA_NAME), subdir=False, map_size=FIRST_MAP_BYTES, lock=False) as database,
        pq.ParquetWriter(part / METADATA_NAME, SCHEMA, compression="zstd") as table,
    ):
        for batch in _batches(rows):
            frames = [(_key(record), pack_frame(pixels)) for record, pixels in batch]
            _put(database, frames)
            table.write_table(pa.Table.from_pylist([_row(record) for record, _ in batch], schema=SCHEMA))
            count += len(batch)
    return count


def _batches(rows: Iterable[tuple[Record, np.ndarray]]) -> Iterator[list[tuple[Record, np.ndarray]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == WRITE_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _put(database: Any, frames: list[tuple[bytes, bytes]]) -> None:
    """One committed transaction; the map is doubled until it fits."""
    import lmdb

    while True:
        try:
            with database.begin(write=True) as change:
                for key, frame in frames:
                    if not change.put(key, frame, overwrite=False):
                        raise ValueError(f"an object id must occur once, got {key!r} twice; rename one")
            return
        except lmdb.MapFullError:
            database.set_mapsize(database.info()["map_size"] * 2)


def _key(record: Record) -> bytes:
    key = record.object_id.encode()
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"an object id must have 1 to {MAX_KEY_BYTES} bytes, got {len(key)}; shorten it")
    return key


def _row(record: Record) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in SCHEMA.names}
    if record.time is not None:
        row["time"] = record.time.astimezone(UTC)
    return row
