"""An ingest on several machines: the same two passes, dealt out in pieces (aqqua.spread); all of them see the
folder of the dataset on a shared disk.

Pass 1: each worker keeps a process that decodes (crew.py), so that here, too, a hostile image costs itself
alone; records come to it from the one listing, rows go to buckets of its own on the shared disk. Pass 2:
first each bucket is sorted, and what is there twice left out, by one worker; the rows of all buckets then
follow each other in known places, so groups of parts are written independently of each other. What parts
hold is what write_parts puts there: the same functions get the same rows in the same order.

At most BUCKETS = 64 workers sort at a time, and MAX_WIDTH parts are one piece of work, so that less than a
million images are written by one worker. Rows are written to disk once more than on one machine. The listing
and duplicates.parquet stay one process's. Nothing is tried again: a worker that dies ends the ingest, and
nothing is left of it. Test: tests/store/test_ingest_machines.py.
"""

import os
import socket
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.spread import Beside, Engine, spread
from aqqua.store.crew import Crew
from aqqua.store.decode import CHUNK, Chunk, Decoded, Decoding, Refused
from aqqua.store.manifest import file_sha256
from aqqua.store.new_folder import flush
from aqqua.store.parts import TIES, Layout, Part, Written, without_repeated_ids, write_rows
from aqqua.store.rows import ORDERED_SCHEMA
from aqqua.store.shuffle import SpillFile, sorted_tables

TASK_RECORDS = 32 * CHUNK  # decoded between two answers of a worker, some seconds of work
RUN_ROWS = 512  # of a sorted bucket that are read at once

Tell = Callable[[str, int, int | None], None]


def decode_on_machines(
    chunks: Iterable[Chunk], folder: Path, decoding: Decoding, engine: Engine
) -> Generator[Decoded | list[SpillFile], None, None]:
    """As aqqua.store.crew.decode_chunks.

    Raises:
        RuntimeError: a worker died, could not start or could not write its rows.
    """
    files: dict[str, list[SpillFile]] = {}
    for found in spread(_Decode(folder.absolute(), decoding), _tasks(chunks), engine):
        yield from found.decoded
        files[found.crew] = found.files
    yield [file for crew in sorted(files) for file in files[crew]]


def _tasks(chunks: Iterable[Chunk]) -> Iterator[Beside]:
    """Records of one tree, the tree beside them."""
    tree: Tree | None = None
    sent: Tree | None = None
    records: list[Record] = []
    for of, more in chunks:
        if records and (of is not tree or len(records) + len(more) > TASK_RECORDS):
            yield Beside(sent, records)
            records = []
        if of is not tree:
            tree, sent = of, replace(of, root=of.root.absolute())  # a process that decodes starts elsewhere
        records = records + more
    if records:
        yield Beside(sent, records)


@dataclass(frozen=True)
class _Found:
    """What one task of decoding came to."""

    crew: str
    decoded: list[Decoded]
    files: list[SpillFile]  # all that this crew has spilled since it began


@dataclass(frozen=True)
class _Decode:
    """What travels to a worker of pass 1."""

    folder: Path
    decoding: Decoding

    def __call__(self) -> Callable[[Beside], _Found]:
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-"
        crew = Crew(self.folder, self.decoding, name)
        crew.hire(1)

        def work(task: Beside) -> _Found:
            records = task.part
            chunks = ((task.shared, records[i : i + CHUNK]) for i in range(0, len(records), CHUNK))
            *decoded, files = crew.decode(chunks)
            return _Found(name, [one for one in decoded if isinstance(one, Decoded)], _listed(files))

        return work


def _listed(files: Decoded | list[SpillFile]) -> list[SpillFile]:
    assert isinstance(files, list), "a crew ends with its files"
    return files


def write_parts_on_machines(
    folder: Path,
    spill: Path,
    spilled: list[SpillFile],
    schema: pa.Schema,
    block_rows: int,
    engine: Engine,
    tell: Tell,
) -> Written:
    """As aqqua.store.parts.write_parts.

    Raises:
        RuntimeError: a worker died.
    """
    folder, spill = folder.absolute(), spill.absolute()
    layout = Layout.of(sum(file.rows for file in spilled), block_rows)
    written, runs = Written(), []
    for run in spread(_Sort(spill), _by_bucket(spilled), engine):
        runs.append(run)
        written.refused += run.refused
    runs.sort(key=lambda run: run.bucket)
    total = sum(run.rows for run in runs)
    pieces = [
        _Piece(group, _reach(runs, first, min(first + layout.group_rows, total)))
        for group, first in enumerate(range(0, total, layout.group_rows))
    ]
    found = []
    for piece in spread(_Write(folder, spill, schema, layout), pieces, engine):
        found.append(piece)
        written.rows += piece.rows
        tell("write", written.rows + len(written.refused), total + len(written.refused))
    for piece in sorted(found, key=lambda one: one.parts[0].name):
        written.blocks += piece.blocks
        written.parts += piece.parts
        written.contents += piece.contents
        written.statistics.merge(piece.statistics)
    return written


def _by_bucket(spilled: list[SpillFile]) -> list[list[SpillFile]]:
    buckets: dict[int, list[SpillFile]] = {}
    for file in spilled:
        buckets.setdefault(file.bucket, []).append(file)
    return [buckets[bucket] for bucket in sorted(buckets)]


@dataclass(frozen=True)
class _Run:
    """The rows of a bucket, sorted, each image once: an Arrow file of batches."""

    bucket: int
    path: Path
    batches: list[int]  # rows of each
    refused: list[Refused]

    @property
    def rows(self) -> int:
        return sum(self.batches)


@dataclass(frozen=True)
class _Sort:
    """What travels to a worker that sorts."""

    spill: Path

    def __call__(self) -> Callable[[list[SpillFile]], _Run]:
        return self._sort

    def _sort(self, files: list[SpillFile]) -> _Run:
        run = _Run(files[0].bucket, self.spill / f"sorted-{files[0].bucket:02d}.arrow", [], [])
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with (
            pa.OSFile(str(run.path), "wb") as file,
            pa.ipc.new_file(file, ORDERED_SCHEMA, options=options) as out,
        ):
            for table in without_repeated_ids(sorted_tables(files, TIES), run.refused):
                for batch in table.to_batches(max_chunksize=RUN_ROWS):
                    out.write_batch(batch)
                    run.batches.append(batch.num_rows)
        flush(run.path)  # for those on other machines
        return run


@dataclass(frozen=True)
class _Stretch:
    """Batches of a run, from one to another, and what of their rows is not wanted at both ends."""

    path: Path
    first: int
    last: int  # the one after the last
    skipped: int
    rows: int

    def tables(self) -> Iterator[pa.Table]:
        left, skipped = self.rows, self.skipped
        with pa.OSFile(str(self.path), "rb") as file, pa.ipc.open_file(file) as run:
            for number in range(self.first, self.last):
                table = pa.Table.from_batches([run.get_batch(number)]).slice(skipped, left)
                skipped, left = 0, left - table.num_rows
                yield table


@dataclass(frozen=True)
class _Piece:
    """A group of parts to be written."""

    group: int
    stretches: list[_Stretch]


def _reach(runs: list[_Run], first: int, last: int) -> list[_Stretch]:
    """Where the rows `first` to `last` of all runs, one after the other, lie."""
    found, begin = [], 0
    for run in runs:
        ends = [begin, *(begin + end for end in accumulate(run.batches))]
        wanted = [i for i in range(len(run.batches)) if ends[i] < last and ends[i + 1] > first]
        if wanted:
            skipped = max(first - ends[wanted[0]], 0)
            rows = min(last, ends[wanted[-1] + 1]) - ends[wanted[0]] - skipped
            found.append(_Stretch(run.path, wanted[0], wanted[-1] + 1, skipped, rows))
        begin = ends[-1]
    return found


@dataclass(frozen=True)
class _Write:
    """What travels to a worker that writes parts."""

    folder: Path
    spill: Path
    schema: pa.Schema
    layout: Layout

    def __call__(self) -> Callable[[_Piece], Written]:
        pa.set_cpu_count(1)
        return self._write

    def _write(self, piece: _Piece) -> Written:
        tables = (table for stretch in piece.stretches for table in stretch.tables())
        written = write_rows(self.folder, self.spill, tables, self.schema, self.layout, 1, piece.group)
        written.parts = [self._sealed(part) for part in written.parts]
        return written

    def _sealed(self, part: Part) -> Part:
        """With the checksum, while the file is still in this machine's memory."""
        path = self.folder / part.name
        flush(path)
        return replace(part, sha256=file_sha256(path))
