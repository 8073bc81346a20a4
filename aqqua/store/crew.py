"""Worker processes that decode; a hostile image costs itself, never the ingest.

Workers are spawned, never forked: the caller may hold threads (Arrow, PyTorch) whose locks a
fork would copy in a locked state. A worker gets a chunk of records, writes its rows to its own
spill files and answers with counts and refusals alone, so pixels never cross a process border.
Work is sent to idle workers only, one chunk each: neither side can block the other's pipe.

A worker that dies, or is silent for too long, is replaced, and its chunk is tried again one
record at a time, so that only the culprit goes to quarantine. Rows that a worker had spilled
stay; the rest of its files is cut off and the chunks it still held in memory are decoded again.
So each record is in the dataset once or in quarantine once.
Test: tests/store/test_crew.py.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic

import pyarrow as pa

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.decode import Chunk, Decoded, Decoder, Decoding, refuse
from aqqua.store.shuffle import SpillFile

CHUNK_LIMIT_S = 120.0  # a chunk takes 0.1 s; one that passes this is tried again record by record
RECORD_LIMIT_S = 60.0  # for one record on its own, after which it is refused
START_LIMIT_S = 300.0  # for a worker to import its modules, from a busy network disk at worst
UNSAFE_CHUNKS = 32  # that a worker may hold in memory, so that a death costs seconds
DIED = "decoder died"
FRUITLESS = 20  # deaths in a row with nothing gained: not the images are at fault but the machine


@dataclass(frozen=True, slots=True)
class _Work:
    """Records to decode; none only asks a worker to write what it holds."""

    tree: Tree
    records: list[Record]
    counted: bool = False  # decoded before by a worker that died with the rows
    alone: bool = False  # one record under suspicion, spilled at once

    def limit_s(self) -> float:
        return RECORD_LIMIT_S if self.alone else CHUNK_LIMIT_S


@dataclass(frozen=True, slots=True)
class _Order:
    """What a worker is sent."""

    tree: Tree | None  # None: the same as last time
    records: list[Record]
    flush: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a worker says of an order, and once on its own when it is ready."""

    decoded: Decoded
    safe: list[SpillFile] | None  # its files, when they hold every row up to here


@dataclass(frozen=True, slots=True)
class _Failure:
    """A worker's last word: the world broke (disk full, out of memory)."""

    message: str


def decode_chunks(
    chunks: Iterable[Chunk], folder: Path, decoding: Decoding, workers: int
) -> Generator[Decoded | list[SpillFile], None, None]:
    """One `Decoded` per chunk or part of it, in any order; then the spill files.

    Args:
        workers: processes; 0 decodes in this one, where a crash of a decoder is a crash.

    Raises:
        RuntimeError: a worker could not start or write its rows, or workers keep dying.
    """
    if workers:
        yield from _decode_in_processes(chunks, folder, decoding, workers)
        return
    decoder = Decoder(folder, "w0", decoding)
    for tree, records in chunks:
        yield decoder.decode(tree, records)
    yield decoder.finish()


def _decode_in_processes(
    chunks: Iterable[Chunk], folder: Path, decoding: Decoding, workers: int
) -> Iterator[Decoded | list[SpillFile]]:
    stream = iter(chunks)
    first = list(islice(stream, workers))  # no more processes than chunks
    crew = Crew(folder, decoding)
    try:
        crew.hire(len(first))
        yield from crew.decode(chain(first, stream))
    finally:
        crew.dismiss()


class Crew:
    """Hands out work, replaces workers that are lost, and sees that every record comes out once."""

    def __init__(self, folder: Path, decoding: Decoding, name: str = "w") -> None:
        """
        Args:
            folder: of the spill files.
            decoding: how.
            name: that the names of its files begin with; no other crew's in the same folder.
        """
        self._folder, self._decoding, self._name = folder, decoding, name
        self._hired = self._fruitless = 0
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}
        self._again: deque[_Work] = deque()  # what a lost worker had not made safe
        self._files: list[SpillFile] = []  # safe rows of lost workers

    def hire(self, workers: int) -> None:
        for _ in range(workers):
            worker = _Worker(self._folder, f"{self._name}{self._hired}", self._decoding)
            self._busy[worker.pipe] = worker  # until it says that it is ready
            self._hired += 1

    def decode(self, chunks: Iterable[Chunk]) -> Iterator[Decoded | list[SpillFile]]:
        """As `decode_chunks`; called again, it goes on, and lists all files it ever made."""
        stream = (_Work(tree, records) for tree, records in chunks)
        while True:
            while self._busy and not self._idle:
                yield from self._gather()
            work = self._again.popleft() if self._again else next(stream, None)
            if work is not None:
                self._give(self._idle.pop(), work)
            elif self._busy:
                yield from self._gather()
            elif not self._ask_for_held_rows():
                break
        yield self._files + [file for worker in self._idle for file in worker.files]

    def dismiss(self) -> None:
        crew = [*self._idle, *self._busy.values()]
        for worker in crew:
            worker.pipe.close()  # an idle worker ends by itself
        for worker in crew:
            worker.end(patience_s=5)

    def _ask_for_held_rows(self) -> bool:
        """Have every row written; false when all are."""
        holders = [worker for worker in self._idle if worker.unsafe]
        for worker in holders:
            self._idle.remove(worker)
            self._give(worker, _Work(worker.unsafe[0].tree, []))
        return bool(holders)

    def _give(self, worker: "_Worker", work: _Work) -> None:
        self._busy[worker.pipe] = worker
        worker.take(work)

    def _gather(self) -> Iterator[Decoded]:
        """Wait for answers, or for the next deadline to pass."""
        patience = min(worker.deadline for worker in self._busy.values()) - monotonic()
        answering = [self._busy.pop(pipe) for pipe in wait(list(self._busy), max(patience, 0.0))]  # type: ignore[call-overload]
        for worker in answering:
            try:
                yield worker.answer()
            except (EOFError, OSError):
                yield from self._lost(worker, DIED)
            else:
                self._idle.append(worker)
                if worker.files and not worker.unsafe:
                    self._fruitless = 0
        # An answer that came while nobody listened (a long listing) is no silence.
        late = [w for w in self._busy.values() if w.deadline < monotonic() and not w.pipe.poll()]
        for worker in late:
            del self._busy[worker.pipe]
            yield from self._lost(worker, f"took over {worker.limit_s:g} s")

    def _lost(self, worker: "_Worker", why: str) -> Iterator[Decoded]:
        """Save what a worker had made safe, and put a new one to what it had not."""
        worker.end(patience_s=5 if why == DIED else 0)  # its pipe closes before its exit code is known
        self._files += worker.cut_files()
        self._again.extend(worker.unsafe)
        work = worker.work
        if work is not None and work.alone:
            self._fruitless = 0
            yield Decoded(0, {0: refuse(work.tree, work.records[0], "unreadable_image", why)})
        else:
            self._fruitless += 1
            if not worker.ready or self._fruitless > FRUITLESS:
                raise RuntimeError(worker.obituary(why))
            if work is not None:
                self._again.extend(replace(work, records=[record], alone=True) for record in work.records)
        self.hire(1)


class _Worker:
    """The near end of one worker process."""

    def __init__(self, folder: Path, name: str, decoding: Decoding) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.ready = False
        self.work: _Work | None = None
        self.unsafe: list[_Work] = []  # decoded, but lost if the process dies now
        self.files: list[SpillFile] = []  # that hold all the rest
        self.limit_s = START_LIMIT_S
        self.deadline = monotonic() + START_LIMIT_S
        self._folder, self._name = folder, name
        self._tree: Tree | None = None
        self._process: BaseProcess = context.Process(
            target=_serve, args=(far_end, folder, name, decoding), name=f"ingest-{name}", daemon=True
        )
        self._process.start()
        far_end.close()

    def take(self, work: _Work) -> None:
        """Send work; the tree's long list of members goes along only when it is a new one."""
        self.work, self.limit_s = work, work.limit_s()
        self.deadline = monotonic() + self.limit_s
        flush = work.alone or not work.records or len(self.unsafe) >= UNSAFE_CHUNKS
        try:
            self.pipe.send(_Order(None if work.tree is self._tree else work.tree, work.records, flush))
        except OSError:
            return  # it died while idle: the answer that does not come will tell
        self._tree = work.tree

    def answer(self) -> Decoded:
        """The result of the work, each record counted once however often it was decoded.

        Raises:
            EOFError, OSError: the process is dead.
            RuntimeError: it could not write.
        """
        answer = self.pipe.recv()
        if isinstance(answer, _Failure):
            raise RuntimeError(answer.message)
        assert isinstance(answer, _Answer), answer
        self.ready, work, self.work = True, self.work, None
        decoded = answer.decoded
        if work is not None:
            kept = [record for i, record in enumerate(work.records) if i not in decoded.refused]
            if kept:
                self.unsafe.append(_Work(work.tree, kept, counted=True))
            if work.counted:
                decoded = Decoded(0, decoded.refused)
        if answer.safe is not None:
            self.files, self.unsafe = answer.safe, []
        return decoded

    def end(self, patience_s: float) -> None:
        self._process.join(timeout=patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(timeout=5)  # not for ever: a read from a dead network disk cannot be killed
        self.pipe.close()

    def cut_files(self) -> list[SpillFile]:
        """Cut off what a dead worker wrote after its last word; its files, which hold all up to there."""
        ends = {file.path: file.end for file in self.files}
        for path in self._folder.glob(f"{self._name}-*"):
            if path in ends:
                os.truncate(path, ends[path])
            else:
                path.unlink()
        return self.files

    def obituary(self, why: str) -> str:
        must, fix = "a worker process must start", "guard your script with if __name__ == '__main__'"
        if self.ready:
            must, fix = "workers must stay alive", "the machine may be out of memory: try fewer workers"
        return f"ingest: {must}, got exit code {self._process.exitcode} ({why}); {fix}"


def _serve(pipe: Connection, folder: Path, name: str, decoding: Decoding) -> None:
    """The worker process: carry out orders until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it stops us
    pa.set_cpu_count(1)
    tree: Tree | None = None
    try:
        decoder = Decoder(folder, name, decoding)
        pipe.send(_Answer(Decoded(0, {}), []))
        while True:
            order: _Order = pipe.recv()
            tree = tree if order.tree is None else order.tree
            assert tree is not None, "the first order brings its tree"
            decoded = decoder.decode(tree, order.records)
            if order.flush:
                decoder.flush()
            pipe.send(_Answer(decoded, decoder.safe_files()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone, or content
    except Exception as error:
        pipe.send(
            _Failure(
                f"ingest: a worker must decode and write its images, got {type(error).__name__}: {error}; "
                "free some space, choose another --out or try fewer workers"
            )
        )
