"""One row per image: a CSV, TSV or Parquet table beside the images, read with a column map.

Columns are named by Record fields (`um_per_px`, `time`, `lat`, …) plus `file`; `columns` maps a
field to the name it has in the table. Numbers are checked, not repaired: '12,5' may be 12.5 or
125, so a comma decimal is refused with the row it is in. A time without zone is UTC.
Tests: tests/instruments/test_folder.py.
"""

import csv
import io
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from aqqua.instruments.numbers import finite_within, is_missing
from aqqua.instruments.ranges import APHIA_ID, DEPTH_M, LATITUDE, LONGITUDE, VOLUME_L
from aqqua.instruments.registry import UM_PER_PX_RANGE
from aqqua.instruments.text_encoding import text_encoding
from aqqua.instruments.tree import Tree

MAX_LINE = 1 << 20  # characters; a longer line is not a table
BATCH_ROWS = 4096  # of Parquet in memory at a time
STATUSES = ("validated", "predicted", "dubious", "discarded")

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
    lines = _parquet_lines if member.lower().endswith(".parquet") else _text_lines
    try:
        with closing(lines(tree, member)) as found:
            header = next(found, [])
            places = _column_places(header, columns, member)
            for number, line in enumerate(found, start=2):
                if line:
                    fits = len(line) == len(header)
                    yield number, {f: line[at].strip() for f, at in places.items()} if fits else None
    except (ColumnMapError, TableError):
        raise
    except Exception as error:  # csv.Error, pyarrow errors, and what a broken archive raises
        raise TableError(f"{type(error).__name__}: {error}") from error


def _text_lines(tree: Tree, member: str) -> Generator[list[str], None, None]:
    """Rows of a text table, streamed: a table of millions of images is never held in memory."""
    encoding = text_encoding(tree, member)
    with tree.open(member) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        lines = _lines(text)
        first = next(lines, "")
        delimiter = "\t" if member.lower().endswith(".tsv") else max(",;\t|", key=first.count)
        yield from csv.reader(chain([first], lines), delimiter=delimiter)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise TableError(f"a line must be shorter than {MAX_LINE} characters; is this a table?")
        yield line


def _parquet_lines(tree: Tree, member: str) -> Generator[list[str], None, None]:
    import pyarrow.parquet as parquet  # 0.3 s to import, needed by few inputs

    with tree.open(member) as raw:
        file = parquet.ParquetFile(raw)
        yield list(file.schema_arrow.names)
        for batch in file.iter_batches(BATCH_ROWS):
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


class TableImages:
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
            values[field] = None if is_missing(text) else FIELDS[field](field, text)
    return values


def _text(field: str, text: str) -> str:  # noqa: ARG001 - the signature of all cell readers
    return text


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def read(field: str, text: str) -> float:
        value = finite_within(text, (low, high))
        if value is None:
            raise BadValueError(f"{field} must be {low:g} to {high:g} with a decimal point, got {text!r}")
        return value

    return read


def _aphia_id(field: str, text: str) -> int:
    value = _number(*APHIA_ID)(field, text)  # '135336.0' in real tables
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
    "lat": _number(*LATITUDE),
    "lon": _number(*LONGITUDE),
    "depth_m": _number(*DEPTH_M),
    "volume_l": _number(*VOLUME_L),
    "label": _text,
    "label_status": _status,
    "aphia_id": _aphia_id,
    "licence": _text,
}
