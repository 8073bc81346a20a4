"""One Parquet file that is there whole or not at all, with strings about it in its metadata; and its reader.

Sizes, carbon and samples are kept so. Written and read in row groups: memory does not grow with the rows.
Test: tests/downstream/test_whole_tables.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

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
    if path.suffix != ".parquet":
        raise ValueError(f"{verb}: the output must be named .parquet, got {path}; rename it")
    if path.exists():
        raise ValueError(
            f"{verb}: the output must not exist yet, got {path}; choose another name or remove it"
        )
    temporary = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            yield writer
        temporary.replace(path)
    except OSError as error:
        raise RuntimeError(
            f"{verb}: the disk must take the output, got {error}; free some space or choose another name"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


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
        if not path.is_file():
            raise ValueError(f"{what}: the file must exist, got {path}; make it with {verb}")
        try:
            with pq.ParquetFile(path) as file:
                got, rows = file.schema_arrow, file.metadata.num_rows
            facts = {k.decode(): v.decode() for k, v in (got.metadata or {}).items()}
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{what}: {path} must be a Parquet file, got: {' '.join(str(error).split())[:200]}; "
                f"make it with {verb}"
            ) from error
        wanted = {name: kind for name, kind, _, _ in columns}
        if got.names != list(wanted):
            raise ValueError(
                f"{what}: {path} must have the columns {', '.join(wanted)}, got "
                f"{', '.join(got.names)[:300]}; make it with {verb}"
            )
        for field in got:
            if not field.type.equals(wanted[field.name]):
                raise ValueError(
                    f"{what}: column {field.name} of {path} must be {wanted[field.name]}, got {field.type}; "
                    f"make it with {verb}"
                )
        ours = {k.removeprefix(PREFIX): v for k, v in facts.items() if k.startswith(PREFIX)}
        return Table(path, ours, rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows in order, at most ROW_GROUP at a time; only these columns, in this order.

        Raises:
            ValueError: the file is damaged.
        """
        with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
            names = list(file.schema_arrow.names if columns is None else columns)
            try:
                for batch in file.iter_batches(ROW_GROUP, columns=names, use_threads=False):
                    yield pa.Table.from_batches([batch]).select(names)
            except (pa.ArrowException, OSError) as error:
                what = " ".join(str(error).split())[:200]
                raise ValueError(f"table: {self.path} must be whole, got: {what}; make it again") from error
