"""The atlas on disk: one Parquet file, a row for each point, and its reader.

`COLUMNS` says what every column is; any Parquet tool reads the file. The schema's metadata holds how it was
made and the numbers that say whether the map can be believed. Row groups are small, so that the thumbnails of
some points are read without those of the others.

Test: tests/explore/atlas/test_atlas_table.py.
"""

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.store.new_file import new_file

FACTS = "aqqua.atlas"  # in the schema's metadata
VERSION = 1
NEIGHBOURS, FOREIGN = 20, 10
ROW_GROUP = 2048  # points; about 3 MB of thumbnails
_HELD = 8  # row groups of thumbnails in memory


def _list(kind: pa.DataType, length: int) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False), length)


_Column = tuple[str, pa.DataType, bool, str]  # name, type, may be null (unknown), meaning

COLUMNS: tuple[_Column, ...] = (
    ("image_id", pa.string(), False, "as in the dataset, unique"),
    ("key", pa.uint64(), False, "as in the dataset"),
    ("x", pa.float32(), False, "of the map, -1 to 1"),
    ("y", pa.float32(), False, "of the map, -1 to 1"),
    (
        "neighbours",
        _list(pa.uint32(), NEIGHBOURS),
        False,
        "rows of the nearest points by cosine of whitened features, nearest first; 4294967295 is none",
    ),
    ("neighbour_similarity", _list(pa.float16(), NEIGHBOURS), False, "cosine to each; 0 where there is none"),
    (
        "foreign",
        _list(pa.uint32(), FOREIGN),
        False,
        "rows of the nearest points of other instruments; 4294967295 is none",
    ),
    ("cluster", pa.int32(), False, "of k-means, 0 the largest; -1 is none"),
    ("novelty", pa.float32(), False, "quantile of the mean distance to the neighbours, 0 to 1"),
    ("label_issue", pa.float32(), True, "how far neighbours speak against the label, 0 to 1"),
    ("thumbnail", pa.binary(), False, "PNG or WebP"),
    ("thumb_width", pa.int16(), False, "of the thumbnail, px"),
    ("thumb_height", pa.int16(), False, "of the thumbnail, px"),
    ("instrument", pa.string(), False, "as in the dataset"),
    ("sample", pa.string(), False, "as in the dataset"),
    ("group", pa.string(), False, "as in the dataset"),
    ("time", pa.timestamp("ms", tz="UTC"), True, "as in the dataset"),
    ("lat", pa.float64(), True, "degrees north"),
    ("lon", pa.float64(), True, "degrees east"),
    ("depth_m", pa.float32(), True, "metres below the surface"),
    ("um_per_px", pa.float32(), True, "micrometres per pixel of the image"),
    ("label", pa.string(), True, "as in the dataset"),
    ("label_status", pa.string(), False, "as in the dataset"),
    ("height", pa.int32(), False, "of the image, px"),
    ("width", pa.int32(), False, "of the image, px"),
    ("class", pa.string(), True, "most probable class, from a table of predictions"),
    ("score", pa.float32(), True, "probability of the class, 0 to 1"),
    ("esd_um", pa.float32(), True, "equivalent spherical diameter, µm, from a table of sizes"),
    ("area_um2", pa.float32(), True, "area, µm²"),
    ("volume_sphere_um3", pa.float32(), True, "volume of the sphere of that diameter, µm³"),
    ("carbon_pg", pa.float32(), True, "carbon, pg, from a table of carbon"),
)
# Only where a label map was given. The rank `class` has another name, as `class` is the predicted one.
RANKS = ("kingdom", "phylum", "taxon_class", "order", "family", "genus", "species")
_WORDS = ("instrument", "sample", "group", "label", "label_status", "class", *RANKS)  # few distinct values


def atlas_schema(ranks: bool, facts: Mapping[str, Any]) -> pa.Schema:
    """Columns with their meanings.

    Args:
        ranks: the label's taxonomy is there too.
        facts: JSON about how it was made.
    """
    more = [(name, pa.string(), True, f"{name} of the label") for name in RANKS if ranks]
    fields = [pa.field(n, kind, null, {"description": text}) for n, kind, null, text in (*COLUMNS, *more)]
    text = json.dumps({"version": VERSION, **facts}, sort_keys=True, ensure_ascii=False)
    return pa.schema(fields, metadata={FACTS: text})


def write_whole(out: Path, schema: pa.Schema, tables: Iterator[pa.Table], row_group: int = ROW_GROUP) -> None:
    """Write a Parquet file to a temporary name and give it its own when all is there.

    Args:
        tables: pieces of any length, in order; a row group in memory at a time.

    Raises:
        RuntimeError: the disk is full or failed.
    """
    compression = {name: "NONE" if name == "thumbnail" else "ZSTD" for name in _leaves(schema)}
    words = [name for name in schema.names if name in _WORDS]
    with (
        new_file(out, "explore build", ".parquet") as partial,
        pq.ParquetWriter(
            partial, schema, compression=compression, use_dictionary=words, write_page_checksum=True
        ) as writer,
    ):
        for table in _of_length(tables, row_group):
            writer.write_table(table.select(schema.names).cast(schema), row_group_size=row_group)


def _leaves(schema: pa.Schema) -> list[str]:
    """Columns as Parquet names them."""
    lists = {field.name for field in schema if pa.types.is_fixed_size_list(field.type)}
    return [f"{name}.list.element" if name in lists else name for name in schema.names]


def _of_length(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many; the last one may be shorter."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows).combine_chunks()
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held).combine_chunks()


class Atlas:
    """An atlas, for reading; for one thread at a time. Opening reads a footer."""

    def __init__(self, path: Path, file: pq.ParquetFile, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts
        self.rows: int = file.metadata.num_rows
        self.columns: list[str] = file.schema_arrow.names
        self._file = file
        groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        self._first = list(accumulate(groups, initial=0))  # row of each group
        self._held: OrderedDict[int, pa.ChunkedArray] = OrderedDict()

    @staticmethod
    def open(path: Path | str) -> "Atlas":
        """
        Raises:
            ValueError: the file is no atlas, or one of a newer aqqua.
        """
        path = Path(path)
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"atlas: {path} must be a Parquet file, got {error}; make one with aqqua explore build"
            ) from error
        text = (file.schema_arrow.metadata or {}).get(FACTS.encode())
        if text is None:
            raise ValueError(
                f"atlas: {path} must be an atlas, got another Parquet file; make one with aqqua explore build"
            )
        facts = _facts(path, text)
        for name, kind, nullable, _ in COLUMNS:
            _require_column(path, file, name, kind, nullable)
        if not file.metadata.num_rows:
            raise ValueError(f"atlas: {path} must hold a point, got none; build it again")
        return Atlas(path, file, facts)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all points.

        Raises:
            ValueError: there is no such column, or the file is damaged.
        """
        unknown = [name for name in columns if name not in self.columns]
        if unknown:
            raise ValueError(f"atlas: columns must be among {', '.join(self.columns)}, got {unknown[0]!r}")
        return self._read(lambda: self._file.read(columns=list(columns))).select(list(columns))

    def thumbnails(self, rows: Sequence[int]) -> list[bytes]:
        """Encoded thumbnails of some points, in that order; only their row groups are read.

        Raises:
            ValueError: there is no such row, or the file is damaged.
        """
        found: dict[int, bytes] = {}
        for row in sorted(set(rows)):
            if not 0 <= row < self.rows:
                raise ValueError(f"atlas: a row must be 0 to {self.rows - 1}, got {row}; give another")
            group = bisect_right(self._first, row) - 1
            found[row] = self._thumbnails_of(group)[row - self._first[group]].as_py()
        return [found[row] for row in rows]

    def _thumbnails_of(self, group: int) -> pa.ChunkedArray:
        if group not in self._held:
            table = self._read(lambda: self._file.read_row_group(group, columns=["thumbnail"]))
            self._held[group] = table["thumbnail"]
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(group)
        return self._held[group]

    def _read(self, read: Callable[[], pa.Table]) -> pa.Table:
        try:
            return read()
        except (OSError, pa.ArrowInvalid) as error:
            if isinstance(error, OSError) and error.errno is not None:  # said by the system, not by Parquet
                raise
            what = " ".join(str(error).split())
            raise ValueError(
                f"atlas: {self.path} must be readable, got {what}; it is damaged: build it again"
            ) from error


def _facts(path: Path, text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise ValueError(f"atlas: {FACTS} of {path} must be JSON, got {error}; build it again") from error
    version = facts.get("version") if isinstance(facts, dict) else None
    if version != VERSION:
        raise ValueError(f"atlas: the version of {path} must be {VERSION}, got {version}; update aqqua")
    found: dict[str, Any] = facts
    return found


def _require_column(path: Path, file: pq.ParquetFile, name: str, kind: pa.DataType, nullable: bool) -> None:
    """A column of the right type; others may write words as dictionaries, or call what is full nullable."""
    if name not in file.schema_arrow.names:
        raise ValueError(f"atlas: {path} must have the column {name}, got none; build it again")
    field = file.schema_arrow.field(name)
    found = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_fixed_size_list(kind) and pa.types.is_fixed_size_list(found):
        found = _list(found.value_type, found.list_size)
    if found != kind:
        raise ValueError(f"atlas: {name} of {path} must be {kind}, got {field.type}; build it again")
    if nullable or not field.nullable or pa.types.is_nested(kind):
        return
    about = file.metadata
    paths = [about.schema.column(c).path for c in range(about.num_columns)]
    column = paths.index(name)
    for group in range(about.num_row_groups):
        statistics = about.row_group(group).column(column).statistics
        if statistics is not None and statistics.null_count:
            raise ValueError(f"atlas: {name} of {path} must never be null, got a null; build it again")
