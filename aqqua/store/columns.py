"""Columns beside a dataset: what is found out about its images later, one row per image.

A folder with a Parquet file for each part of the dataset, of the same name and the same row groups, so that
row i of block b is image i of block b; nothing has to be joined, and each part can be made by another process
or machine. Embeddings, clusters and sampling weights are kept so. Every row has the `key` of its image, which
a reader compares with the dataset's; _columns.json says of which dataset they are, what they are, how they
were made, and the checksum of each file. Any Parquet tool reads the folder as one table.

Test: tests/store/test_columns.py.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import aqqua
from aqqua.store.manifest import file_sha256, seal_of
from aqqua.store.new_folder import new_folder
from aqqua.store.open_parts import OpenParts
from aqqua.store.read import Dataset

MANIFEST = "_columns.json"  # Parquet tools pass over names that begin so
FORMAT, VERSION = "aqqua columns", 1
KEY = pa.field("key", pa.uint64(), False, {"description": "of the image, as in the dataset"})
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.parquet$")]
    bytes: Annotated[int, Field(ge=0)]
    sha256: _Sha256


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["aqqua columns"]
    version: int
    kind: str
    dataset_sha256: _Sha256
    rows: Annotated[int, Field(ge=1)]
    facts: dict[str, Any]
    made_by: dict[str, str]
    parts: list[_File]
    seal: str


@dataclass(frozen=True)
class ColumnsWriter:
    """Writes the parts of one folder; picklable, so that other processes can write some of them."""

    folder: Path
    dataset: Dataset
    schema: pa.Schema  # with `key` first

    def write_part(self, part: int, table_of: Callable[[int], pa.Table]) -> int:
        """Write one part; returns its rows.

        Args:
            part: its number in the dataset.
            table_of: block -> its columns in the order of its images, without `key`.

        Raises:
            ValueError: a table does not fit the block or the schema.
        """
        rows = 0
        path = self.folder / self.dataset.part_name(part)
        with pq.ParquetWriter(
            path, self.schema, compression="zstd", compression_level=3, write_page_checksum=True
        ) as writer:
            for block in self.dataset.blocks_of(part):
                table, keys = table_of(block), self.dataset.table([KEY.name], blocks=[block])
                if len(table) != len(keys):
                    raise ValueError(
                        f"columns: a table must have a row for each of the {len(keys)} images of block "
                        f"{block}, got {len(table)}; correct what makes it"
                    )
                row_group = table.select(self.schema.names[1:]).add_column(0, KEY, keys[KEY.name])
                writer.write_table(row_group.cast(self.schema), row_group_size=max(len(table), 1))
                rows += len(table)
        return rows


@contextmanager
def write_columns(
    out: Path, dataset: Dataset, kind: str, fields: Sequence[pa.Field], facts: dict[str, Any], verb: str
) -> Iterator[ColumnsWriter]:
    """Make such a folder; every part must have been written when the block ends.

    Args:
        out: new, or an empty folder; nothing is there if anything fails.
        dataset: beside which the columns stand.
        kind: what they are, for the reader: `embeddings`, `weights`, ...
        fields: the columns, without `key`; a description belongs into each field's metadata.
        facts: JSON about how they were made; it may be filled until the block ends.
        verb: who makes it, for messages.

    Raises:
        ValueError: there is something at `out`, or a part was not written.
        RuntimeError: the disk is full or failed.
    """
    with new_folder(out, verb) as folder:
        writer = ColumnsWriter(folder, dataset, pa.schema([KEY, *fields]))
        yield writer
        names = [dataset.part_name(part) for part in range(dataset.parts)]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"columns: every part must be written, got no {missing[0]}; write it first")
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "kind": kind,
            "dataset_sha256": dataset.manifest_sha256,
            "rows": dataset.rows,
            "facts": facts,
            "made_by": {"aqqua": aqqua.__version__},
            "parts": [_file(folder / name) for name in names],
        }
        text = json.dumps({**manifest, "seal": seal_of(manifest)}, indent=1, sort_keys=True) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")


class Columns:
    """Such a folder, for reading. Opening costs one manifest."""

    def __init__(self, path: Path, dataset: Dataset, manifest: _Manifest) -> None:
        self.path, self.dataset = path, dataset
        self.kind, self.facts = manifest.kind, manifest.facts
        self._manifest = manifest
        self._open = OpenParts(path)

    def __reduce__(self) -> tuple[Any, tuple[Path, Dataset, str]]:
        return Columns.open, (self.path, self.dataset, self.kind)

    @staticmethod
    def open(path: Path | str, dataset: Dataset, kind: str) -> "Columns":
        """Open the columns of one kind of a dataset.

        Raises:
            ValueError: the folder holds no such columns, those of another dataset, or is damaged.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        if manifest.kind != kind:
            raise ValueError(f"columns: {path} must hold {kind}, got {manifest.kind}; give another folder")
        names = [dataset.part_name(part) for part in range(dataset.parts)]
        if manifest.dataset_sha256 != dataset.manifest_sha256 or [p.name for p in manifest.parts] != names:
            raise ValueError(
                f"columns: {path} must be of the dataset {dataset.path}, got those of another one; "
                "make them from this dataset"
            )
        for part in manifest.parts:
            if not (path / part.name).is_file():
                raise ValueError(
                    f"columns: every part must be there, got no {path / part.name}; copy it again"
                )
        return Columns(path, dataset, manifest)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the first part."""
        return pq.read_schema(self.path / self.dataset.part_name(0))

    @cached_property
    def sha256(self) -> str:
        """Names these columns: their manifest holds the checksums of all parts."""
        return file_sha256(self.path / MANIFEST)

    def block(self, block: int, columns: Sequence[str]) -> pa.Table:
        """Columns of a block's images, in their order.

        Raises:
            ValueError: the file is damaged.
            OSError: the disk failed.
        """
        name, group = self.dataset.place(block)
        try:
            file = self._open.file(name)
            table = file.read_row_group(group, columns=list(columns), use_threads=False).select(list(columns))
        except MemoryError:  # Arrow's too: nothing is wrong with the file
            raise
        except Exception as error:  # of Arrow, UTF-8, a look-up: whatever damaged bytes do to their reader
            self._open.forget(name)
            if isinstance(error, OSError) and error.errno is not None:  # said by the system, not by Parquet
                raise
            raise self._damaged(name, str(error)) from error
        if len(table) != self.dataset.rows_of(block):
            raise self._damaged(name, f"{len(table)} rows in row group {group}")
        return table

    def verify(self) -> list[str]:
        """Names of files whose bytes are not those that were written; reads all of them."""
        return [
            part.name for part in self._manifest.parts if _file(self.path / part.name) != part.model_dump()
        ]

    def _damaged(self, name: str, what: str) -> ValueError:
        return ValueError(
            f"columns: {self.path / name} must be readable, got {' '.join(what.split())}; it is damaged: "
            "make it again"
        )


def _read_manifest(path: Path) -> _Manifest:
    file = path / MANIFEST
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise ValueError(
            f"columns: {path} must be a folder of columns, got {found}; aqqua embed makes one where --out is "
            "not named .parquet"
        )
    if not file.is_file():
        raise ValueError(
            f"columns: a folder of columns must hold {MANIFEST}, got {path}; make one, for instance with "
            "aqqua embed or aqqua curate"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        manifest = _Manifest.model_validate(raw)
    except (ValueError, ValidationError) as error:
        raise ValueError(f"columns: {file} must be sound, got {error}; make the columns again") from error
    if manifest.version != VERSION:
        raise ValueError(
            f"columns: version must be {VERSION}, got {manifest.version} in {file}; update aqqua"
        )
    if manifest.seal != seal_of(raw):
        raise ValueError(
            f"columns: {file} must have the seal of what it says, got another; it is damaged or was changed "
            "by hand: make the columns again"
        )
    return manifest


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
