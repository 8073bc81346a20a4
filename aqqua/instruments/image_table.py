"""One row per image: a CSV, TSV or Parquet table beside the images, read with a column map.

Columns are named by Record fields (`um_per_px`, `time`, `lat`, …) plus `file`; `columns` maps a
field to the name it has in the table. Numbers are checked, not repaired: '12,5' may be 12.5 or
125, so a comma decimal is refused with the row it is in. A time without zone is UTC.
Tests: tests/instruments/test_folder.py.
"""

import codecs
import csv
import io
import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Any

from aqqua.instruments.registry import UM_PER_PX_RANGE
from aqqua.instruments.tree import Tree

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
STATUSES = ("validated", "predicted", "dubious", "discarded")
DEPTH_RANGE_M = (-50.0, 12_000.0)  # waves and pressure offsets above, Challenger Deep 10,935 m below

Row = dict[str, str]  # Record field -> text of its cell


class TableError(Exception):
    """The table, or one row of it, cannot be read."""


class ColumnMapError(ValueError):
    """The column map does not fit the table: a mistake of the user."""


class BadValueError(ValueError):
    """A cell holds what cannot be true."""


def read_rows(tree: Tree, member: str, columns: dict[str, str]) -> Iterator[tuple[int, Row | None]]:
    """Rows as (number, cells by field), the header being row 1; None for a row of the wrong shape.

    Raises:
        TableError: the table cannot be parsed.
        ColumnMapError: the column map does not fit the table.
    """
    try:
        if member.lower().endswith(".parquet"):
            lines = _parquet_lines(tree.read(member))
        else:
            lines = _text_lines(_as_text(tree.read(member)), member)
        header = next(lines, [])
        places = _column_places(header, columns, member)
        for number, line in enumerate(lines, start=2):
            if line:
                fits = len(line) == len(header)
                yield number, {f: line[at].strip() for f, at in places.items()} if fits else None
    except ColumnMapError:
        raise
    except Exception as error:  # csv.Error, pyarrow errors, and what a broken archive raises
        raise TableError(f"{type(error).__name__}: {error}") from error


def _as_text(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")  # "Unicode text" of Excel
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # what Windows instruments write; every byte has a meaning


def _text_lines(text: str, member: str) -> Iterator[list[str]]:
    header = (text[:65_536].splitlines() or [""])[0]
    delimiter = "\t" if member.lower().endswith(".tsv") else max(",;\t|", key=header.count)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _parquet_lines(data: bytes) -> Iterator[list[str]]:
    import pyarrow.parquet as parquet  # 0.3 s to import, needed by few inputs

    file = parquet.ParquetFile(io.BytesIO(data))
    yield list(file.schema_arrow.names)
    for batch in file.iter_batches():
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield [_cell_text(value) for value in values]


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value)


def _column_places(header: list[str], columns: dict[str, str], member: str) -> dict[str, int]:
    """Where each field is. A field keeps its own name as column name unless the map says otherwise."""
    unknown = sorted(set(columns) - set(FIELDS))
    if unknown:
        raise ColumnMapError(f"columns: a field must be one of {', '.join(FIELDS)}, got {', '.join(unknown)}")
    names = [name.strip() for name in header]
    for field, column in columns.items():
        if names.count(column) != 1:
            raise ColumnMapError(
                f"columns: {field} must be one column of {member}, got {column!r}; it has: {', '.join(names)}"
            )
    wanted = {field: columns.get(field, field) for field in FIELDS}
    places = {field: names.index(column) for field, column in wanted.items() if column in names}
    if "file" not in places:
        raise ColumnMapError(
            f"columns: {member} must have a column of image files, got {', '.join(names)}; map file=<column>"
        )
    return places


class ImageFinder:
    """Finds the image a row means: its path, its path beside the table, or its file name alone.

    Tables travel: their paths are often those of another machine, and some leave the suffix out.
    """

    def __init__(self, images: frozenset[str], table: str) -> None:
        self._images = images
        self._folder = PurePosixPath(table).parent.as_posix()
        self._by_name: dict[str, list[str]] = {}
        for image in images:
            path = PurePosixPath(image)
            for key in {path.name, path.stem}:
                self._by_name.setdefault(key, []).append(image)

    def find(self, file: str) -> str | None:
        """The image; None if there is none or more than one could be meant."""
        file = file.replace("\\", "/").removeprefix("./")
        beside = f"{self._folder}/{file}" if self._folder != "." else file
        for path in (file, beside):
            if path in self._images:
                return path
        named = self._by_name.get(file.rsplit("/", 1)[-1], [])
        near = [image for image in named if self._folder == "." or image.startswith(f"{self._folder}/")]
        return (near or named)[0] if len(near or named) == 1 else None


def record_values(row: Row) -> dict[str, object]:
    """Typed values of a row by Record field; empty cells are None.

    Raises:
        BadValueError: a value that cannot be true, with its field.
    """
    values: dict[str, object] = {}
    for field, text in row.items():
        if field != "file":
            values[field] = None if text.lower() in MISSING else FIELDS[field](field, text)
    return values


def _text(field: str, text: str) -> str:  # noqa: ARG001 - the signature of all cell readers
    return text


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def read(field: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or "_" in text:  # float() takes 1_000
            raise BadValueError(f"{field} must be {low:g} to {high:g} with a decimal point, got {text!r}")
        return value

    return read


def _aphia_id(field: str, text: str) -> int:
    value = _number(1, 10**9)(field, text)  # '135336.0' in real tables
    if value != int(value):
        raise BadValueError(f"{field} must be a whole number, got {text!r}")
    return int(value)


def _time(field: str, text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadValueError(f"{field} must be an ISO 8601 time, got {text!r}") from error


def _status(field: str, text: str) -> str:
    if text.lower() not in STATUSES:
        raise BadValueError(f"{field} must be one of {', '.join(STATUSES)}, got {text!r}")
    return text.lower()


FIELDS: dict[str, Callable[[str, str], object]] = {
    "file": _text,
    "object_id": _text,
    "instrument": _text,
    "um_per_px": _number(*UM_PER_PX_RANGE),
    "sample": _text,
    "group": _text,
    "time": _time,
    "lat": _number(-90, 90),
    "lon": _number(-180, 180),
    "depth_m": _number(*DEPTH_RANGE_M),
    "volume_l": _number(1e-9, 1e12),
    "label": _text,
    "label_status": _status,
    "aphia_id": _aphia_id,
    "licence": _text,
}
