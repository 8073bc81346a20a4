"""Records to rows: pixels are loaded, described and spilled by worker processes.

Workers are spawned, never forked: the caller may hold threads (Arrow, PyTorch) whose locks a
fork would copy in a locked state. A worker gets a chunk of records, writes its rows to its own
spill files and answers with counts and rejections alone, so pixels never cross a process border.
Work is sent to idle workers only, one chunk each: neither side can block the other's pipe.
Test: tests/store/test_write.py.
"""

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from aqqua.instruments.record import Record, RejectedInputError
from aqqua.instruments.tree import Tree
from aqqua.store.rows import ORDERED_SCHEMA, SPILL_SCHEMA, row_of
from aqqua.store.schema import SCHEMA
from aqqua.store.shuffle import Spill, SpillFile, shuffled_order

CHUNK = 256  # records sent to a worker at once, about 0.1 s of work


@dataclass(frozen=True, slots=True)
class Refused:
    """One row of quarantine.parquet."""

    input: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one chunk of records became."""

    accepted: int
    refused: list[Refused]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A worker's last word: the world broke (disk full, out of memory)."""

    message: str


Chunk = tuple[Tree, list[Record]]


class Decoder:
    """Turns chunks of records into spilled rows, in this process."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self._seed = seed
        self._spill = Spill(folder, name, ORDERED_SCHEMA)

    def decode(self, tree: Tree, records: list[Record]) -> Decoded:
        rows: list[tuple[Any, ...]] = []
        refused: list[Refused] = []
        for record in records:
            try:
                rows.append(row_of(tree, record))
            except RejectedInputError as error:
                refused.append(Refused(tree.label, record.source, error.reason, error.detail))
        if rows:
            self._spill.add(self._table(rows))
        return Decoded(len(rows), refused)

    def finish(self) -> list[SpillFile]:
        with self._spill:
            return self._spill.finish()

    def _table(self, rows: list[tuple[Any, ...]]) -> pa.Table:
        columns = [pa.array(v, f.type) for v, f in zip(zip(*rows, strict=True), SPILL_SCHEMA, strict=True)]
        key = columns[SCHEMA.get_field_index("key")].to_numpy()
        columns.append(pa.array(shuffled_order(self._seed, key)))
        return pa.Table.from_arrays(columns, schema=ORDERED_SCHEMA)


def decode_chunks(
    chunks: Iterable[Chunk], folder: Path, seed: int, workers: int
) -> Generator[Decoded | list[SpillFile], None, None]:
    """One `Decoded` per chunk, in any order; then the spill files of each worker.

    Raises:
        RuntimeError: a worker died, or could not write its rows.
    """
    stream = iter(chunks)
    first = list(islice(stream, 2))
    if workers > 1 and len(first) == 2:  # a single chunk is not worth a process
        yield from _decode_in_processes(chain(first, stream), folder, seed, workers)
        return
    decoder = Decoder(folder, "w0", seed)
    for tree, records in chain(first, stream):
        yield decoder.decode(tree, records)
    yield decoder.finish()


def _decode_in_processes(
    chunks: Iterable[Chunk], folder: Path, seed: int, workers: int
) -> Iterator[Decoded | list[SpillFile]]:
    crew = [_Worker(folder, f"w{number}", seed) for number in range(workers)]
    try:
        idle, busy = list(crew), dict[Connection, _Worker]()
        for tree, records in chunks:
            if not idle:
                for worker in _answering(busy):
                    yield worker.answer()
                    idle.append(worker)
            worker = idle.pop()
            worker.send(tree, records)
            busy[worker.pipe] = worker
        while busy:
            for worker in _answering(busy):
                yield worker.answer()
        for worker in crew:
            worker.pipe.send(None)
        for worker in crew:
            yield worker.answer()
    finally:
        for worker in crew:
            worker.stop()


def _answering(busy: dict[Connection, "_Worker"]) -> list["_Worker"]:
    return [busy.pop(pipe) for pipe in wait(list(busy)) if isinstance(pipe, Connection)]


class _Worker:
    """The near end of one worker process."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self._tree: Tree | None = None
        self._records: list[Record] = []
        self._process: BaseProcess = context.Process(
            target=_serve, args=(far_end, folder, name, seed), name=f"ingest-{name}", daemon=True
        )
        self._process.start()
        far_end.close()

    def send(self, tree: Tree, records: list[Record]) -> None:
        """Hand over a chunk; the tree's long list of members goes along only when it is a new one."""
        try:
            self.pipe.send((None if tree is self._tree else tree, records))
        except OSError as error:
            raise self._died() from error
        self._tree, self._records = tree, records

    def answer(self) -> Any:
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(answer, _Failure):
            raise RuntimeError(answer.message)
        return answer

    def stop(self) -> None:
        self.pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _died(self) -> RuntimeError:
        self._process.join(timeout=5)
        where = (
            f" between {self._records[0].source!r} and {self._records[-1].source!r}" if self._records else ""
        )
        return RuntimeError(
            f"ingest: a worker process must live, got exit code {self._process.exitcode}{where}; "
            "it was killed (out of memory?) or an image broke its decoder: try fewer workers, or leave it out"
        )


def _serve(pipe: Connection, folder: Path, name: str, seed: int) -> None:
    """The worker process: answer chunks until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it stops us
    pa.set_cpu_count(1)
    decoder = Decoder(folder, name, seed)
    tree: Tree | None = None
    try:
        while (work := pipe.recv()) is not None:
            tree = work[0] or tree
            assert tree is not None, "the first chunk brings its tree"
            pipe.send(decoder.decode(tree, work[1]))
        pipe.send(decoder.finish())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone: nobody wants the rows
    except Exception as error:
        pipe.send(
            _Failure(
                f"ingest: a worker must decode and write its images, got {type(error).__name__}: {error}; "
                "free some space, choose another --out or try fewer workers"
            )
        )
