"""Reading a dataset: blocks of images, or columns alone.

Opening costs one manifest whatever the number of images. A block's pixels are views into one
Arrow buffer; nothing is copied until someone writes to them. Where rows hold original files, these are
decoded while the block is read (aqqua.store.unpack), or stay files for a decoder of the caller's. Every
page's checksum is verified while it is read.
Test: tests/store/test_read.py, test_files.py. Timing: bench/data/ingest.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aqqua.instruments.original import Original
from aqqua.store.manifest import file_sha256, read_manifest
from aqqua.store.open_parts import OpenParts
from aqqua.store.schema import IMAGE_COLUMNS, MANIFEST, SCHEMAS, SIZE_COLUMNS, WORDS
from aqqua.store.sizes import Sizes
from aqqua.store.unpack import BadRowError, UnpackedFiles, one_piece, unpack, unpack_files


class DamagedError(ValueError):
    """The bytes of a block are not those that were written. Reading them again will not help."""


@dataclass(frozen=True, slots=True)
class Block:
    """The I images of one row group."""

    sizes: Sizes
    offsets: np.ndarray  # [I + 1] int64, where each image's bytes start in `data`
    data: np.ndarray  # uint8, read-only
    formats: tuple[str | None, ...] = ()  # of images whose bytes are a file; () where all are pixels

    def __len__(self) -> int:
        return len(self.sizes)

    def pixels(self, i: int) -> np.ndarray:
        """Image i as acquired: (H, W) or (H, W, 3), uint8 or uint16; a read-only view where it can be."""
        assert not self.formats or self.formats[i] is None, f"block: image {i} is a file; take image({i})"
        sizes = self.sizes
        raw = self.data[self.offsets[i] : self.offsets[i + 1]]
        if sizes.bits[i] == 16:
            # Odd-sized 8-bit neighbours leave 16-bit images unaligned; such a view is slow, a copy is not.
            raw = raw.view("<u2") if raw.ctypes.data % 2 == 0 else np.frombuffer(raw.tobytes(), "<u2")
        shape = (int(sizes.height[i]), int(sizes.width[i]))
        return raw.reshape(shape if sizes.channels[i] == 1 else (*shape, 3))

    def image(self, i: int) -> np.ndarray | Original:
        """Image i as this block has it: its pixels, or the file that holds them."""
        form = self.formats[i] if self.formats else None
        if form is None:
            return self.pixels(i)
        return Original(self.data[self.offsets[i] : self.offsets[i + 1]].tobytes(), form)


class Dataset:
    """A dataset on disk. Safe to use from many threads; pickles as its path."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self._version: int = manifest["schema_version"]
        self.schema: pa.Schema = SCHEMAS[self._version]
        self.rows: int = manifest["rows"]
        self._parts: list[dict[str, Any]] = manifest["parts"]
        part_blocks = np.array([part["blocks"] for part in self._parts], np.int64)
        self._first_block = np.concatenate([[0], part_blocks.cumsum()])  # [parts + 1]
        self.blocks = int(self._first_block[-1])
        self._full_block: int = manifest["block_rows"]
        self._open = OpenParts(path)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Dataset.open, (self.path,)

    def __len__(self) -> int:
        return self.rows

    @staticmethod
    def open(path: Path | str) -> "Dataset":
        """Open a dataset by its folder.

        Raises:
            ValueError: the folder is no dataset, a part of it is missing, or it is of a newer aqqua.
        """
        path = Path(path)
        manifest = read_manifest(path)
        there = {entry.name for entry in path.iterdir()}
        missing = [part["name"] for part in manifest["parts"] if part["name"] not in there]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(
                f"dataset: every part must be there, got no {missing[0]}{more} in {path}; "
                "copy it again or ingest anew"
            )
        return Dataset(path, manifest)

    @cached_property
    def manifest_sha256(self) -> str:
        """Names the dataset: its manifest holds the checksums of all its files."""
        return file_sha256(self.path / MANIFEST)

    def sizes(self, block: int) -> Sizes:
        """Sizes, boxes and scales of a block, without reading its pixels."""
        return _sizes(self._read(block, list(SIZE_COLUMNS)))

    def block(self, block: int) -> Block:
        """A block with its pixels.

        Raises:
            DamagedError: a part is damaged, or an image's bytes do not fit its declared size.
            OSError: the file cannot be read now.
        """
        return self.block_with(block, ())[0]

    def block_with(self, block: int, columns: Sequence[str]) -> tuple[Block, pa.Table]:
        """A block with its pixels, and other columns of it, by one read.

        Raises:
            DamagedError: a part is damaged, or an image's bytes do not fit its declared size.
            OSError: the file cannot be read now.
        """
        return self._block(block, columns, lambda *parts: (*unpack(*parts), ()))

    def files_with(self, block: int, columns: Sequence[str]) -> tuple[Block, pa.Table]:
        """`block_with`, but original files stay files: nothing is decoded, and nothing looks into them.

        Raises:
            DamagedError, OSError: as `block_with`.
        """
        return self._block(block, columns, unpack_files)

    def _block(
        self, block: int, columns: Sequence[str], unpacked: Callable[[pa.Table, Sizes, int], UnpackedFiles]
    ) -> tuple[Block, pa.Table]:
        self._check_columns(columns)
        needed = {*SIZE_COLUMNS, *IMAGE_COLUMNS, *columns}
        table = self._read(block, [name for name in self.schema.names if name in needed])
        try:  # page headers have no checksum: they can turn words into numbers of words that are not there
            for name in needed.intersection(WORDS):
                table[name].validate(full=True)
            sizes = _sizes(table)
            offsets, data, formats = unpacked(table, sizes, self.manifest["pixel_bytes"])
        except BadRowError as error:
            name, group = self.place(block)
            raise DamagedError(
                f"dataset: {self.path / name} row group {group} {error}; the file is damaged: "
                "see aqqua dataset verify"
            ) from error
        except (pa.ArrowInvalid, ValueError, TypeError, IndexError) as error:
            raise self._damaged(block, str(error)) from error
        return Block(sizes, offsets, data, formats), table.select(list(columns))

    def table(self, columns: Sequence[str], blocks: Sequence[int] | None = None) -> pa.Table:
        """Columns of all blocks, or of some, in the order of the dataset."""
        self._check_columns(columns)
        wanted = range(self.blocks) if blocks is None else blocks
        tables = [self._read(block, list(columns)) for block in wanted]
        empty = _schema_of(self._version, tuple(columns)).empty_table()
        return pa.concat_tables(tables).unify_dictionaries() if tables else empty

    def iter_blocks(self) -> Iterator[Block]:
        """All blocks in order, one in memory at a time."""
        return (self.block(block) for block in range(self.blocks))

    def place(self, block: int) -> tuple[str, int]:
        """The part that holds a block, and the block's row group in it.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= block < self.blocks:
            raise IndexError(f"dataset: block must be 0 to {self.blocks - 1}, got {block}")
        part = int(np.searchsorted(self._first_block, block, side="right")) - 1
        return self._parts[part]["name"], block - int(self._first_block[part])

    @property
    def parts(self) -> int:
        """Parquet files, in whose order the blocks are counted."""
        return len(self._parts)

    def part_name(self, part: int) -> str:
        """File name of a part."""
        name: str = self._parts[part]["name"]
        return name

    def blocks_of(self, part: int) -> range:
        """Blocks that lie in a part."""
        return range(int(self._first_block[part]), int(self._first_block[part + 1]))

    def rows_of(self, block: int) -> int:
        """Images in a block: every block is full but the last one of the dataset."""
        last = block == self.blocks - 1
        return self.rows - self._full_block * (self.blocks - 1) if last else self._full_block

    def pixel_bytes(self, block: int) -> int:
        """Bytes of a block's pixels, without reading them: as its part's footer, unchecked, states them.

        Raises:
            IndexError: there is no such block.
            OSError, ValueError: and whatever else a failing disk or a damaged footer does to its reader.
        """
        return self._column_bytes(block, ("pixels",))

    def file_bytes(self, block: int) -> int:
        """The same of a block whose files stay files."""
        return self._column_bytes(block, ("pixels", "encoded"))

    def _column_bytes(self, block: int, names: Sequence[str]) -> int:
        name, group = self.place(block)
        row_group = self._open.file(name).metadata.row_group(group)
        columns = (row_group.column(i) for i in range(row_group.num_columns))
        return sum(c.total_uncompressed_size for c in columns if c.path_in_schema in names)

    def _read(self, block: int, columns: list[str]) -> pa.Table:
        name, group = self.place(block)
        try:
            table = (
                self._open.file(name)
                .read_row_group(group, columns=columns, use_threads=False)
                .select(columns)
            )
        except MemoryError:  # Arrow's too: nothing is wrong with the file
            raise
        except Exception as error:  # of Arrow, UTF-8, a look-up: whatever damaged bytes do to their reader
            self._open.forget(name)  # a handle may be stale: the next attempt opens the file again
            if isinstance(error, OSError) and error.errno is not None:  # said by the system, not by Parquet
                raise OSError(
                    error.errno,
                    f"dataset: {self.path / name} row group {group} must be readable, got {error}; "
                    "look at the disk or the network",
                ) from error
            raise self._damaged(block, str(error)) from error
        if len(table) != (rows := self.rows_of(block)):
            raise DamagedError(
                f"dataset: {self.path / name} row group {group} must hold {rows} rows, got {len(table)}; "
                "the file is not the one of the manifest"
            )
        wanted = _schema_of(self._version, tuple(columns))
        if not table.schema.equals(wanted):  # the footer has no checksum
            raise self._damaged(block, f"columns of {table.schema.types} instead of {wanted.types}")
        return table

    def _damaged(self, block: int, what: str) -> DamagedError:
        name, group = self.place(block)
        return DamagedError(
            f"dataset: {self.path / name} row group {group} must be readable, got {' '.join(what.split())}; "
            "the file is damaged: see aqqua dataset verify"
        )

    def _check_columns(self, columns: Sequence[str]) -> None:
        unknown = [name for name in columns if name not in self.schema.names]
        if unknown:
            raise ValueError(
                f"dataset: columns must be among {', '.join(self.schema.names)}, got {unknown[0]!r}"
            )


@lru_cache(16)
def _schema_of(version: int, columns: tuple[str, ...]) -> pa.Schema:
    return pa.schema([SCHEMAS[version].field(name) for name in columns])


def _sizes(table: pa.Table) -> Sizes:
    names = one_piece(table["instrument"].unify_dictionaries())
    sides = [table[f"box_{side}"].to_numpy() for side in ("top", "left", "bottom", "right")]
    return Sizes(
        key=table["key"].to_numpy(),
        height=table["height"].to_numpy(),
        width=table["width"].to_numpy(),
        channels=table["channels"].to_numpy(),
        bits=table["bits"].to_numpy(),
        um_per_px=table["um_per_px"].to_numpy().astype(np.float32, copy=False),  # null becomes NaN
        background=one_piece(table["background"]).flatten().to_numpy().reshape(-1, 3),
        box=np.stack(sides, axis=1),
        instrument=names.indices.to_numpy(),
        instrument_names=tuple(names.dictionary.to_pylist()),
    )
