"""Global order out of core: rows are spilled into buckets by a 64-bit order, then sorted bucket by bucket.

A radix sort from the top bits down. A bucket larger than memory allows is split by its next bits,
so any number of rows passes through bounded memory. The result is sorted by (order, ties), so it
depends on the rows alone: not on their input order, the number of workers or the bucket sizes.
Used twice: to shuffle images (order = a hash of seed and image) and to group equal content.
Test: tests/store/test_shuffle.py.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ORDER = "order"  # the uint64 column every spilled table has
BUCKET_BITS = 6
BUCKETS = 1 << BUCKET_BITS
LOAD_BYTES = 256 << 20  # a bucket up to this size is sorted in memory, at about three times as much
FLUSH_BYTES = 32 << 20  # rows gathered before they are spread over the buckets
_LAST_DEPTH = 64 // BUCKET_BITS - 1  # beyond it the order has no more bits to split by


def shuffled_order(seed: int, key: np.ndarray) -> np.ndarray:
    """Position of each image in the shuffled dataset, as a 64-bit number; uint64 in and out.

    SplitMix64's finaliser over key + a multiple of the seed: a bijection of the key, so two
    images share a place only if they share the key.
    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2⁶⁴ is meant
        z = key + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class SpillFile:
    """Rows of one bucket that one writer spilled."""

    bucket: int
    path: Path
    rows: int
    nbytes: int  # uncompressed
    end: int  # bytes of the file that hold these rows; what follows was never vouched for


class Spill:
    """Spreads tables over bucket files (Arrow IPC streams, lz4) by the bits of their order."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, depth: int = 0) -> None:
        self._folder, self._name, self._schema, self._depth = folder, name, schema, depth
        self._options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self._writers: dict[int, tuple[Path, pa.OSFile, pa.RecordBatchStreamWriter]] = {}
        self._sizes: dict[int, list[int]] = defaultdict(lambda: [0, 0])

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, file, _ in self._writers.values():
            file.close()

    @property
    def holds_rows(self) -> bool:
        """Whether rows wait in memory: until a flush, they are lost with the process."""
        return bool(self._held)

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        self._held_bytes += table.nbytes
        if self._held_bytes >= FLUSH_BYTES:
            self.flush()

    def files(self) -> list[SpillFile]:
        """What is written so far, without the rows still held."""
        return [
            SpillFile(
                bucket, path, rows=self._sizes[bucket][0], nbytes=self._sizes[bucket][1], end=file.tell()
            )
            for bucket, (path, file, _) in self._writers.items()
        ]

    def finish(self) -> list[SpillFile]:
        """Write what is held, close the files and list them."""
        self.flush()
        for _, _, writer in self._writers.values():
            writer.close()
        files = self.files()
        for _, file, _ in self._writers.values():
            file.close()
        return files

    def flush(self) -> None:
        """Hand the held rows to the operating system: from here on they outlive this process."""
        if not self._held:
            return
        table = pa.concat_tables(self._held).combine_chunks()
        self._held, self._held_bytes = [], 0
        shift = np.uint64(64 - BUCKET_BITS * (self._depth + 1))
        bucket = (table[ORDER].to_numpy() >> shift) & np.uint64(BUCKETS - 1)
        rows = np.argsort(bucket, kind="stable")
        ends = np.searchsorted(bucket[rows], np.arange(BUCKETS, dtype=np.uint64), side="right")
        start = 0
        for number, end in enumerate(ends.tolist()):
            if end > start:
                self._write(number, table.take(pa.array(rows[start:end])))
            start = end

    def _write(self, bucket: int, table: pa.Table) -> None:
        if bucket not in self._writers:
            path = self._folder / f"{self._name}-{bucket:02d}.arrows"
            file = pa.OSFile(str(path), "wb")
            self._writers[bucket] = path, file, pa.ipc.new_stream(file, self._schema, options=self._options)
        self._writers[bucket][2].write_table(table)
        self._sizes[bucket][0] += table.num_rows
        self._sizes[bucket][1] += table.nbytes


def sorted_tables(files: list[SpillFile], ties: list[str], depth: int = 0) -> Iterator[pa.Table]:
    """All spilled rows sorted by (order, ties), as tables of up to LOAD_BYTES; the files are deleted.

    Only rows that share one order, 64 bits long, can make a table larger than that.
    """
    buckets: dict[int, list[SpillFile]] = defaultdict(list)
    for file in files:
        buckets[file.bucket].append(file)
    for bucket in sorted(buckets):
        members = buckets[bucket]
        if sum(file.nbytes for file in members) > LOAD_BYTES and depth < _LAST_DEPTH:
            yield from sorted_tables(_split(members, depth + 1), ties, depth + 1)
            continue
        table = pa.concat_tables([batch for file in members for batch in _batches(file)]).combine_chunks()
        keys = [(name, "ascending") for name in (ORDER, *ties)]
        # Indices first: a sort of the whole table would copy the pixels once more.
        yield table.take(pc.sort_indices(table, sort_keys=keys))


def _split(files: list[SpillFile], depth: int) -> list[SpillFile]:
    first = files[0].path
    with pa.ipc.open_stream(str(first)) as stream:
        schema = stream.schema
    with Spill(first.parent, f"{first.stem}-{depth}", schema, depth) as spill:
        for file in files:
            for table in _batches(file):
                spill.add(table)
        return spill.finish()


def _batches(file: SpillFile) -> Iterator[pa.Table]:
    with pa.OSFile(str(file.path), "rb") as source, pa.ipc.open_stream(source) as stream:
        for batch in stream:
            yield pa.Table.from_batches([batch])
    file.path.unlink()
