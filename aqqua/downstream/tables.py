"""One Parquet file that is there whole or not at all, with strings about it in its metadata; and its reader.

Predictions, sizes, carbon and samples are kept so. Written and read in row groups:
memory does not grow with the rows.
Test: tests/downstream/test_whole_tables.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.store.new_file import new_file

ROW_GROUP = 65_536  # rows in memory at a time
PREFIX = "aqqua."  # of keys in the schema's metadata

Column = tuple[str, pa.DataType, bool, str]  # name, type, may be null, meaning with unit


def schema_of(columns: Sequence[Column], facts: Mapping[str, str]) -> pa.Schema:
    """Fields with their meanings, and facts as metadata under PREFIX."""
    fields = [pa.field(name, kind, null, {"description": text}) for name, kind, null, text in columns]
    return pa.schema(fields, metadata={PREFIX + name: value for name, value in facts.items()})


@contextmanager
def new_table(path: Path, schema: pa.Schema, verb: str) -> Iterator[pq.ParquetWriter]:
    """A writer to a temporary name, renamed when the block ends well; nothing is left when not.

    Raises:
        ValueError: the file exists or is not named .parquet.
        RuntimeError: the disk is full or failed.
    """
    with (
        new_file(path, verb, ".parquet") as partial,
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        yield writer


@dataclass(frozen=True)
class Table:
    """Such a file, for reading."""

    path: Path
    facts: dict[str, str]  # without PREFIX
    rows: int

    @staticmethod
    def open(path: Path | str, columns: Sequence[Column], what: str, verb: str) -> "Table":
        """Open a table and check that it is one of these.

        Args:
            columns: that it must have, in this order.
            what: it holds, for messages: "sizes".
            verb: that makes it, for messages: "aqqua sizes".

        Raises:
            ValueError: no such file, no Parquet file, or other columns.
        """
        path = Path(path)
        got, rows = read_schema(path, what, verb)
        require_schema(got, schema_of(columns, {}), path, what, verb)
        return Table(path, facts_of(got, path, what), rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows in order, at most ROW_GROUP at a time; only these columns, in this order.

        Raises:
            ValueError: there is no such column, or the file is damaged.
        """
        return batches_of(self.path, columns, "table")


def read_schema(path: Path, what: str, verb: str) -> tuple[pa.Schema, int]:
    """Schema and rows of a Parquet file.

    Raises:
        ValueError: no such file, or no Parquet file; says that `verb` makes it.
    """
    if not path.is_file():
        raise ValueError(f"{what}: the file must exist, got {path}; make it with {verb}")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{what}: {path} must be a Parquet file, got: {' '.join(str(error).split())[:200]}; "
            f"make it with {verb}"
        ) from error


def facts_of(schema: pa.Schema, path: Path, what: str) -> dict[str, str]:
    """What the metadata says under PREFIX, without it.

    Raises:
        ValueError: it is no text.
    """
    try:
        facts = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    except UnicodeDecodeError as error:
        raise ValueError(f"{what}: {path} must have UTF-8 metadata, got others; make it again") from error
    return {k.removeprefix(PREFIX): v for k, v in facts.items() if k.startswith(PREFIX)}


def require_schema(got: pa.Schema, wanted: pa.Schema, path: Path, what: str, verb: str) -> None:
    """
    Raises:
        ValueError: other columns, or of other types.
    """
    if got.names != wanted.names:
        raise ValueError(
            f"{what}: {path} must have the columns {', '.join(wanted.names)}, got "
            f"{', '.join(got.names)[:300]}; make it with {verb}"
        )
    for ours, theirs in zip(wanted, got, strict=True):
        if not theirs.type.equals(ours.type):
            raise ValueError(
                f"{what}: column {ours.name} of {path} must be {ours.type}, got {theirs.type}; "
                f"make it with {verb}"
            )


def batches_of(path: Path, columns: Sequence[str] | None, what: str) -> Iterator[pa.Table]:
    """All rows of a file in order, at most ROW_GROUP at a time; only these columns, in this order.

    Raises:
        ValueError: there is no such column, or the file is damaged.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        known = file.schema_arrow.names
        names = list(known if columns is None else columns)
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"{what}: columns must be among {', '.join(known)}, got {unknown[0]!r}; correct it"
            )
        try:
            for group in range(file.num_row_groups):  # at one call for all, Arrow keeps more of them
                batches = file.iter_batches(ROW_GROUP, [group], columns=names, use_threads=False)
                yield from (pa.Table.from_batches([batch]).select(names) for batch in batches)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{what}: {path} must be whole, got: {' '.join(str(error).split())[:200]}; make it again"
            ) from error
