"""Reading a dataset: blocks of images, or columns alone.

Opening costs one manifest whatever the number of images. A block's pixels are views into one
Arrow buffer; nothing is copied until someone writes to them. Every page's checksum is verified
while it is read.
Test: tests/store/test_read.py. Timing: bench/data/ingest.py.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.store.manifest import file_sha256, read_manifest
from aqqua.store.schema import MANIFEST, SCHEMA, SIZE_COLUMNS
from aqqua.store.sizes import Sizes

OPEN_PARTS = 64  # per thread: a file handle and about 1 MB of footer each


@dataclass(frozen=True, slots=True)
class Block:
    """The I images of one row group."""

    sizes: Sizes
    offsets: np.ndarray  # [I + 1] int64, where each image's bytes start in `data`
    data: np.ndarray  # uint8, read-only

    def __len__(self) -> int:
        return len(self.sizes)

    def pixels(self, i: int) -> np.ndarray:
        """Image i as acquired: (H, W) or (H, W, 3), uint8 or uint16; a read-only view where it can be."""
        sizes = self.sizes
        raw = self.data[self.offsets[i] : self.offsets[i + 1]]
        if sizes.bits[i] == 16:
            # Odd-sized 8-bit neighbours leave 16-bit images unaligned; such a view is slow, a copy is not.
            raw = raw.view("<u2") if raw.ctypes.data % 2 == 0 else np.frombuffer(raw.tobytes(), "<u2")
        shape = (int(sizes.height[i]), int(sizes.width[i]))
        return raw.reshape(shape if sizes.channels[i] == 1 else (*shape, 3))


class Dataset:
    """A dataset on disk. Safe to use from many threads; pickles as its path."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.rows: int = manifest["rows"]
        self._parts: list[dict[str, Any]] = manifest["parts"]
        part_blocks = np.array([part["blocks"] for part in self._parts], np.int64)
        self._first_block = np.concatenate([[0], part_blocks.cumsum()])  # [parts + 1]
        self.blocks = int(self._first_block[-1])
        self._full_block: int = manifest["block_rows"]
        self._local = threading.local()

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
            ValueError: a part is damaged, or an image's bytes do not fit its declared size.
        """
        table = self._read(block, [*SIZE_COLUMNS, "pixels"])
        sizes, pixels = _sizes(table), table["pixels"].combine_chunks()
        pixels = pixels.chunk(0) if isinstance(pixels, pa.ChunkedArray) else pixels
        _, offset_buffer, data = pixels.buffers()
        offsets = np.frombuffer(offset_buffer, np.int64)[pixels.offset : pixels.offset + len(pixels) + 1]
        self._check_lengths(block, sizes, np.diff(offsets))
        values = np.frombuffer(data, np.uint8)
        values.flags.writeable = False  # views share it, from image to image
        return Block(sizes, offsets, values)

    def table(self, columns: Sequence[str], blocks: Sequence[int] | None = None) -> pa.Table:
        """Columns of all blocks, or of some, in the order of the dataset."""
        unknown = [name for name in columns if name not in SCHEMA.names]
        if unknown:
            raise ValueError(f"dataset: columns must be among {', '.join(SCHEMA.names)}, got {unknown[0]!r}")
        wanted = range(self.blocks) if blocks is None else blocks
        tables = [self._read(block, list(columns)) for block in wanted]
        empty = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
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

    def rows_of(self, block: int) -> int:
        """Images in a block: every block is full but the last one of the dataset."""
        last = block == self.blocks - 1
        return self.rows - self._full_block * (self.blocks - 1) if last else self._full_block

    def _read(self, block: int, columns: list[str]) -> pa.Table:
        name, group = self.place(block)
        try:
            table = self._file(name).read_row_group(group, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"dataset: {self.path / name} row group {group} must be readable, got {error}; "
                "the file is damaged: see aqqua dataset verify"
            ) from error
        if len(table) != (rows := self.rows_of(block)):
            raise ValueError(
                f"dataset: {self.path / name} row group {group} must hold {rows} rows, got {len(table)}; "
                "the file is not the one of the manifest"
            )
        return table.select(columns)

    def _file(self, name: str) -> pq.ParquetFile:
        """The open part of this thread; a Parquet file must not be shared between threads."""
        files: OrderedDict[str, pq.ParquetFile] | None = getattr(self._local, "files", None)
        if files is None:
            files = self._local.files = OrderedDict()
        if name in files:
            files.move_to_end(name)
            return files[name]
        files[name] = pq.ParquetFile(self.path / name, page_checksum_verification=True)
        if len(files) > OPEN_PARTS:
            files.popitem(last=False)[1].close()
        return files[name]

    def _check_lengths(self, block: int, sizes: Sizes, lengths: np.ndarray) -> None:
        pixels = sizes.height.astype(np.int64) * sizes.width
        declared = pixels * sizes.channels * (sizes.bits // 8)
        legal = (
            (sizes.height > 0)
            & (sizes.width > 0)
            & np.isin(sizes.channels, (1, 3))
            & np.isin(sizes.bits, (8, 16))
        )
        wrong = np.flatnonzero((declared != lengths) | ~legal)
        if len(wrong):
            name, group = self.place(block)
            i = int(wrong[0])
            raise ValueError(
                f"dataset: {self.path / name} row group {group} row {i} must be height × width × channels × "
                f"bits / 8 = {sizes.height[i]}×{sizes.width[i]}×{sizes.channels[i]}×{sizes.bits[i]}/8 bytes, "
                f"got {lengths[i]}; the file is damaged: see aqqua dataset verify"
            )


def _sizes(table: pa.Table) -> Sizes:
    names = table["instrument"].unify_dictionaries().combine_chunks()
    names = names.chunk(0) if isinstance(names, pa.ChunkedArray) else names
    sides = [table[f"box_{side}"].to_numpy() for side in ("top", "left", "bottom", "right")]
    return Sizes(
        key=table["key"].to_numpy(),
        height=table["height"].to_numpy(),
        width=table["width"].to_numpy(),
        channels=table["channels"].to_numpy(),
        bits=table["bits"].to_numpy(),
        um_per_px=table["um_per_px"].to_numpy().astype(np.float32, copy=False),  # null becomes NaN
        background=_flat(table["background"]).reshape(-1, 3),
        box=np.stack(sides, axis=1),
        instrument=names.indices.to_numpy(),
        instrument_names=tuple(names.dictionary.to_pylist()),
    )


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
