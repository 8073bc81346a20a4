"""Blocks that are read and being read, shared by those who ask for them and the threads that read.

Three kinds lie here. Named and asked for: in use, kept whatever they take. Named and not yet asked for: read
ahead, in the order of need, while they stay within a budget of bytes; one always fits. Asked for beyond what
is named, as by a pack whose sampling weights are so sparse that it crosses hundreds of windows: as many with
pixels as stay within the same budget once more; of the oldest the sizes alone are kept, and who asks for
their pixels, as only the blocks of a pack's images are asked for, has them read again.
Test: tests/store/test_shelf.py.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Thread, current_thread
from typing import Any

from aqqua.store.read import Dataset
from aqqua.store.substitute import Served, read_served
from aqqua.store.weights import SamplingWeights

POLL_S = 0.1  # between two looks at the clock of one who waits for a block
CLOSE_S = 0.8  # that threads in the middle of a read get to end it; then they are left alone


class ReaderClosedError(RuntimeError):
    """Asked of a reader that was closed, maybe while waiting for the answer."""


class Shelf:
    """Serves blocks to any thread; its own threads start with the first request and end with `close`."""

    def __init__(
        self,
        dataset: Dataset,
        columns: Sequence[str],
        *,
        threads: int,
        budget_bytes: int,
        files: bool = False,
        weights: SamplingWeights | None = None,
    ) -> None:
        """
        Args:
            dataset: whose blocks are read.
            columns: further columns, of the same read.
            threads: that read; 0: whoever asks reads.
            budget_bytes: of pixels read ahead; 0: nothing is read ahead.
            files: original files stay files, and their bytes count in place of their pixels'.
            weights: of the images, of the same read.
        """
        self._dataset, self._columns, self._budget, self._files = dataset, columns, budget_bytes, files
        self._weights = weights
        held = _file_bytes(dataset.manifest) if files else dataset.manifest["pixel_bytes"]
        self._average = held // max(dataset.blocks, 1)  # bytes of a block
        self._changed = Condition()  # guards all below
        self._held: dict[int, Served | Exception] = {}
        self._reading: dict[int, int] = {}  # and the bytes that each will take
        self._coming: tuple[int, ...] = ()  # what `follow` names, in the order of need
        self._named: frozenset[int] = frozenset()
        self._bytes: dict[int, int] = {}  # of coming blocks, once measured
        self._measuring = False  # one at a time, or a later block took the room of an earlier one
        self._asked: set[int] = set()  # since `follow` names them
        self._awaited: list[int] = []  # once for each who waits
        self._urgent: deque[int] = deque()  # awaited, and nobody reads them yet
        self._beyond: dict[int, int] = {}  # asked for, not named, with pixels: bytes, oldest first
        self._closed = False
        self._threads = [
            Thread(target=_work, args=(self,), name=f"reader-{i}", daemon=True)  # a hung disk holds no exit
            for i in range(threads)
        ]

    def follow(self, coming: Sequence[int]) -> None:
        """Which blocks are in use or will be, in the order of need; but for awaited ones, others go."""
        with self._changed:
            self._coming = tuple(dict.fromkeys(coming))
            self._named = frozenset(coming)
            kept = self._named.union(self._awaited)
            self._held = {b: held for b, held in self._held.items() if b in kept and _has_pixels(held)}
            self._asked &= {*self._held, *self._awaited}
            self._beyond = {b: n for b, n in self._beyond.items() if b in self._held and b not in self._named}
            self._bytes = {b: n for b, n in self._bytes.items() if b in self._named}
            self._wake()

    def ask(self, block: int, waiting: Callable[[int, float], None], *, pixels: bool) -> Served:
        """A block as soon as it is there.

        Args:
            block: its number.
            waiting: called with it and the seconds waited, several times a second; may raise.
            pixels: whether they are needed, too; else they may be missing.

        Raises:
            ReaderClosedError: the shelf is closed.
            OSError, DamagedError: as `read_served`; who asks again starts a new attempt.
        """
        with self._changed:
            self._check_open()
            self._awaited.append(block)
            if block not in self._asked:  # it no longer counts as read ahead: there may be room for another
                self._asked.add(block)
                self._wake()
        try:
            if not self._threads and not self._has(block, pixels):
                self._put(block, self._read(block))
            with self._changed:
                return self._wait(block, waiting, pixels)
        finally:
            with self._changed:
                self._awaited.remove(block)

    def _wait(self, block: int, waiting: Callable[[int, float], None], pixels: bool) -> Served:
        started = time.monotonic()
        while not self._has(block, pixels):
            self._check_open()
            if block not in self._reading and block not in self._urgent:
                self._held.pop(block, None)  # sizes alone
                self._urgent.append(block)
                self._wake()
            waiting(block, time.monotonic() - started)
            self._changed.wait(POLL_S)
        self._check_open()
        held = self._held[block]
        if isinstance(held, Exception):
            del self._held[block]
            raise held
        return held

    def _has(self, block: int, pixels: bool) -> bool:
        held = self._held.get(block)
        return held is not None and (_has_pixels(held) or not pixels)

    def read_next(self) -> bool:
        """One thread's next read; waits until there is one to do. False when the shelf is closed."""
        with self._changed:
            while (block := self._next()) is None and not self._closed:
                self._changed.wait()
            if block is None or self._closed:
                return False
            self._reading[block] = self._likely(block)
            measured = block in self._asked or block in self._bytes
            self._measuring = self._measuring or not measured
        if measured or self._admit(block):
            held: Served | Exception
            try:
                held = self._read(block, self._pause)
            except Exception as error:  # whatever it is, it is the consumer's to handle
                held = error
            self._put(block, held)
        return True

    def _read(self, block: int, pause: Callable[[float], object] = time.sleep) -> Served:
        return read_served(
            self._dataset, block, self._columns, pause, files=self._files, weights=self._weights
        )

    def _next(self) -> int | None:
        """What someone waits for, else the first block to come, if it is likely to fit."""
        while self._urgent:
            block = self._urgent.popleft()
            if block in self._awaited and not self._known(block):
                return block
        coming = (b for b in self._coming if b not in self._asked and not self._known(b))
        first = next(coming, None)
        if first is None or (self._measuring and first not in self._bytes):
            return None
        return first if self._fits(self._likely(first)) else None

    def _admit(self, block: int) -> bool:
        """Whether a block may be read now that its footer tells its bytes; if not, it is put back.

        It is measured by the thread that will read it, which needs the footer anyway, and outside the lock:
        a footer can hang as a read can.
        """
        try:
            stated = (self._dataset.file_bytes if self._files else self._dataset.pixel_bytes)(block)
        except Exception:  # the read meets it, too, and tells failing from damaged
            stated = 0
        with self._changed:
            self._measuring = False
            del self._reading[block]
            self._bytes[block] = max(stated, self._average)  # no checksum covers a footer
            if admitted := block in self._asked or self._fits(self._bytes[block]):
                self._reading[block] = self._bytes[block]
            self._changed.notify_all()
            return admitted

    def _put(self, block: int, held: Served | Exception) -> None:
        with self._changed:
            self._reading.pop(block, None)
            if not self._closed and (block in self._named or block in self._asked):
                self._held[block] = held
                if block not in self._named and isinstance(held, Served):
                    self._beyond[block] = held.nbytes
                    self._shed()
            self._changed.notify_all()

    def _shed(self) -> None:
        """Keep no more pixels beyond the named blocks than the budget, but what someone waits for."""
        for block in [b for b in self._beyond if b not in self._awaited]:
            if sum(self._beyond.values()) <= self._budget:
                return
            del self._beyond[block]
            held = self._held[block]
            assert isinstance(held, Served), f"shelf: block {block} must be served, got {held}"
            self._held[block] = held.without_pixels()

    def _known(self, block: int) -> bool:
        return block in self._held or block in self._reading

    def _likely(self, block: int) -> int:
        return self._bytes.get(block, self._average)

    def _fits(self, size: int) -> bool:
        """Whether a block of so many bytes may be read ahead. One always may, or a large one ended it all."""
        ahead = self._ahead_bytes()
        return self._budget > 0 and (not ahead or ahead + size <= self._budget)

    def _ahead_bytes(self) -> int:
        """Of blocks nobody asked for yet: those that lie here, and those being read."""
        ahead = (self._held.get(b) for b in self._coming if b not in self._asked)
        reading = (size for b, size in self._reading.items() if b not in self._asked)
        return sum(held.nbytes for held in ahead if isinstance(held, Served)) + sum(reading)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
            self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise ReaderClosedError("reader: must be open, got a block asked for after it was closed")

    def _wake(self) -> None:
        self._check_open()
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        self._changed.notify_all()

    def close(self) -> None:
        """End the threads, and the wait of whoever waits; drop everything."""
        with self._changed:
            self._closed = True
            self._held.clear()
            self._coming = ()
            self._changed.notify_all()
        end = time.monotonic() + CLOSE_S
        for thread in self._threads:
            if thread.ident is not None and thread is not current_thread():
                thread.join(max(end - time.monotonic(), 0.0))


def _file_bytes(manifest: Mapping[str, Any]) -> int:
    """Bytes of all images where files stay files: those of the files, and pixels of the other images."""
    kinds = manifest.get("encoded", {}).values()
    others = 1 - sum(kind["images"] for kind in kinds) / max(manifest["rows"], 1)
    return sum(kind["bytes"] for kind in kinds) + round(manifest["pixel_bytes"] * others)


def _has_pixels(held: Served | Exception) -> bool:
    """An error is as good as pixels: it is the answer."""
    return isinstance(held, Exception) or held.has_pixels


def _work(shelf: Shelf) -> None:
    while shelf.read_next():
        pass
