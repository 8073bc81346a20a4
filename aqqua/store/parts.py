"""Pass 2 of an ingest: spilled rows, in shuffled order, into Parquet parts of whole blocks.

Parts are compressed side by side by threads: block b of a group of parts goes to part b mod
the group's width. The width follows from the number of rows alone, so the bytes do not depend on
the number of threads; and any fixed way to deal out shuffled rows is as shuffled as another.

Compression: zstd 9 over raw rows, no dictionary, pages of about 1 MB with a checksum each.
Measured on 4,096 shuffled ISIIS images (6,025 B raw), one core, pixels alone: zstd 3 1,700 B and
16 µs an image, 6 1,650 B and 50 µs, 9 1,631 B and 79 µs, 12 1,618 B and 146 µs, 15 1,604 B and
436 µs, 19 1,568 B and 1,557 µs; all read at 190,000 to 240,000 images/s. Beyond level 9 a per
cent costs twice the time. The whole data set, metadata included: bench/results/cpu/ingest.jsonl.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aqqua.store.decode import Refused
from aqqua.store.schema import BLOCKS_PER_PART, WORDS
from aqqua.store.shuffle import ORDER, Spill, SpillFile, sorted_tables
from aqqua.store.stats import Statistics

COMPRESSION_LEVEL = 9
PAGE_BYTES = 1 << 20
MAX_WIDTH = 16  # parts written side by side
TIES = ["image_id", "source", "content"]  # what decides where the order is the same
LEAST_BLOCKS = 16  # a small dataset is not cut into tiny files: 8,192 images a part at least
DICTIONARY_ENCODED = [*WORDS, "label", "label_status", "licence", "format"]
_CONTENT_SCHEMA = pa.schema(
    [("content", pa.binary(16)), ("image_id", pa.string()), ("label", pa.string()), (ORDER, pa.uint64())]
)


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of the dataset."""

    name: str
    rows: int
    blocks: int
    sha256: str | None = None  # None: to be taken from the file


@dataclass(slots=True)
class Written:
    """What pass 2 wrote, and what it had to refuse."""

    rows: int = 0
    blocks: int = 0
    parts: list[Part] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    contents: list[SpillFile] = field(default_factory=list)  # (content, image id, label) by content
    statistics: Statistics = field(default_factory=Statistics)


def write_parts(
    folder: Path,
    spill: Path,
    spilled: list[SpillFile],
    schema: pa.Schema,
    block_rows: int,
    threads: int,
    tell: Callable[[str, int, int | None], None],
) -> Written:
    """Sort the spilled rows and write them as `schema` has it: part-00000.parquet, part-00001.parquet, …"""
    total = sum(file.rows for file in spilled)
    refused: list[Refused] = []
    in_order = without_repeated_ids(sorted_tables(spilled, TIES), refused)

    def told(rows: int) -> None:
        tell("write", rows + len(refused), total)

    layout = Layout.of(total, block_rows)
    written = write_rows(folder, spill, in_order, schema, layout, threads, told=told)
    written.refused = refused
    return written


@dataclass(frozen=True, slots=True)
class Layout:
    """How blocks are dealt out over parts; it follows from the rows that were spilled alone."""

    block_rows: int
    width: int  # parts written side by side: a group

    @staticmethod
    def of(spilled_rows: int, block_rows: int) -> "Layout":
        return Layout(block_rows, min(max(spilled_rows // block_rows // LEAST_BLOCKS, 1), MAX_WIDTH))

    @property
    def group_rows(self) -> int:
        """Of a group of parts that is full."""
        return self.width * BLOCKS_PER_PART * self.block_rows


def write_rows(
    folder: Path,
    spill: Path,
    in_order: Iterator[pa.Table],
    schema: pa.Schema,
    layout: Layout,
    threads: int,
    group: int = 0,
    told: Callable[[int], None] = lambda _rows: None,
) -> Written:
    """Write rows, in shuffled order, from the first row of a group of parts on.

    Args:
        folder: of the dataset.
        spill: where contents are spilled.
        in_order: tables with the columns of ORDERED_SCHEMA, each image once.
        schema: of the parts.
        layout: of the dataset.
        threads: that compress.
        group: of parts, that the rows begin with.
        told: called with the rows written.
    """
    written = Written()
    with (
        Spill(spill, f"content-{group:06d}", _CONTENT_SCHEMA) as contents,
        PartWriters(folder, schema, layout, threads, group * layout.width) as writers,
    ):
        for block in _blocks(in_order, layout.block_rows):
            writers.add(block)
            written.statistics.add(block)
            contents.add(_contents(block))
            written.rows += block.num_rows
            written.blocks += 1
            told(written.rows)
        written.parts = writers.finish()
        written.contents = contents.finish()
    return written


class _Slot:
    """One part of the group being written; at most one block waits for it."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = self.blocks = 0
        self.pending: Future[None] | None = None
        self.writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=[name for name in DICTIONARY_ENCODED if name in schema.names],
            write_statistics=["time", "lat", "lon", "depth_m", "label", "instrument", "height", "width"],
            write_page_checksum=True,
            data_page_size=PAGE_BYTES,
            write_batch_size=8,  # rows between two looks at the page size: a page may pass it by 8 images
        )

    def wait(self) -> None:
        if self.pending is not None:
            self.pending.result()
            self.pending = None


class PartWriters:
    """Deals blocks out to a group of parts that threads write side by side."""

    def __init__(
        self, folder: Path, schema: pa.Schema, layout: Layout, threads: int, first_part: int = 0
    ) -> None:
        self._folder, self._schema, self._first = folder, schema, first_part
        self._width, self._block_rows = layout.width, layout.block_rows
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="parts")
        self._slots: list[_Slot] = []
        self._dealt = 0  # blocks of the current group
        self._parts: list[Part] = []

    def __enter__(self) -> "PartWriters":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, block: pa.Table) -> None:
        if self._dealt == self._width * BLOCKS_PER_PART:
            self._close_group()
        number = self._dealt % self._width
        if number == len(self._slots):
            name = f"building-{self._first + number}.parquet"  # no other group's
            self._slots.append(_Slot(self._folder / name, self._schema))
        slot = self._slots[number]
        slot.wait()
        slot.pending = self._pool.submit(self._write, slot, block)
        slot.rows += block.num_rows
        slot.blocks += 1
        self._dealt += 1

    def finish(self) -> list[Part]:
        self._close_group()
        return self._parts

    def _write(self, slot: _Slot, block: pa.Table) -> None:
        slot.writer.write_table(_as_stored(block, self._schema), row_group_size=self._block_rows)

    def _close_group(self) -> None:
        """Close the parts and number them, the one with the latest block (maybe a short one) last."""
        first = self._dealt % len(self._slots) if self._slots else 0
        for slot in self._slots[first:] + self._slots[:first]:
            slot.wait()
            slot.writer.close()
            name = f"part-{self._first + len(self._parts):05d}.parquet"
            slot.path.rename(self._folder / name)
            self._parts.append(Part(name, slot.rows, slot.blocks))
        self._slots, self._dealt = [], 0


def without_repeated_ids(tables: Iterator[pa.Table], refused: list[Refused]) -> Iterator[pa.Table]:
    """Keep the first row of each image id; the others join `refused`.

    Rows of one id share their order, and a table never ends between rows of one order.
    """
    for table in tables:
        order = table[ORDER].to_numpy()
        same_order = np.flatnonzero(order[1:] == order[:-1]) + 1  # rare: look at the names only here
        ids = table["image_id"]
        repeated = [i for i in same_order.tolist() if ids[i].as_py() == ids[i - 1].as_py()]
        for i in repeated:
            source = table["source"][i].as_py()
            refused.append(Refused(table["input"][i].as_py(), source, "duplicate_id", ids[i].as_py()))
        yield table.take(np.delete(np.arange(len(table)), repeated)) if repeated else table


def _blocks(tables: Iterator[pa.Table], block_rows: int) -> Iterator[pa.Table]:
    """Tables of exactly `block_rows` rows, the last one shorter; each in one piece of memory.

    One piece, because Parquet pages would else follow the borders of the buckets.
    """
    rest: pa.Table | None = None
    for table in tables:
        rows = table if rest is None else pa.concat_tables([rest, table])
        whole = len(rows) - len(rows) % block_rows
        for start in range(0, whole, block_rows):
            yield rows.slice(start, block_rows).combine_chunks()
        rest = rows.slice(whole).combine_chunks()
    if rest is not None and len(rest):
        yield rest


def _as_stored(block: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        pc.dictionary_encode(block[name].combine_chunks()) if name in WORDS else block[name]
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _contents(block: pa.Table) -> pa.Table:
    first = np.frombuffer(b"".join(block["content"].to_pylist()), ">u8")[::2]  # the hash's first 8 bytes
    columns = [block[name] for name in ("content", "image_id", "label")]
    return pa.Table.from_arrays([*columns, pa.array(first.astype(np.uint64))], schema=_CONTENT_SCHEMA)
