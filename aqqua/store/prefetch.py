"""Whole blocks read ahead of the plan, in threads, within a bound of memory.

`BlockReader.follow` says which blocks are coming, in the order of need; threads read them, sizes and
pixels at once, checksums verified, as long as what nobody asked for yet stays within `read_ahead_mb`.
Planning (`sizes`) and rendering (`block`) are served from the same read. A block that is asked for is
read before all others, whatever is on the shelf, and stays until `follow` no longer names it.

What is served does not depend on the threads: they change when a block is read, never what it is
(aqqua.store.substitute). Test: tests/store/test_prefetch.py. Timing: bench/data/read.py.
"""

import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread, current_thread

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from aqqua.store.read import Block, DamagedError, Dataset
from aqqua.store.sizes import Sizes
from aqqua.store.substitute import BadBlock, Served, read_served

POLL_S = 0.1  # between two looks at the clock of one who waits for a block
SLOW_S = 5.0  # a wait that is told of
QUIET_S = 600.0  # between two such lines
CLOSE_S = 0.8  # that threads in the middle of a read get to end it; then they are left alone


class ReadConfig(BaseModel):
    """How a dataset is read during training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_threads: int = Field(
        default=2,
        ge=0,
        le=64,
        description="threads that read blocks ahead; 0 reads when asked, without time limit, for debugging",
    )
    read_ahead_mb: int = Field(
        default=512,
        ge=0,
        le=1 << 20,
        description="MB (10⁶ bytes) of blocks read before they are asked for; those in use come on top",
    )
    read_timeout_s: float = Field(
        default=600.0, gt=0, description="longest wait for one block; then the run ends with its name"
    )
    max_bad_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of the blocks read that may be damaged and replaced; one block always may",
    )


class ReaderClosedError(RuntimeError):
    """Asked of a reader that was closed, maybe while waiting for the answer."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class BlockReader:
    """Blocks of a dataset for one consumer; what planning asks (aqqua.plan.lanes.Blocks), and pixels.

    Threads start with the first request and end with `close`, at the latest with the reader or the
    interpreter; none of them ever keeps a process from ending.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ReadConfig | None = None,
        columns: Sequence[str] = (),
        say: Callable[[str], None] = _to_stderr,
    ) -> None:
        """
        Args:
            dataset: whose blocks are served.
            config: threads and bounds.
            columns: further columns for `table`, of the same read.
            say: gets a line when a wait is long.
        """
        self.config, self.blocks, self.say = config or ReadConfig(), dataset.blocks, say
        self._dataset = dataset
        self._shelf = _Shelf(dataset, self.config, tuple(columns))
        self._visits = 0
        self._bad: set[int] = set()
        self._quiet_until = -QUIET_S
        # Threads know the shelf alone: so a reader that is forgotten ends them, and so does the interpreter.
        self.close = weakref.finalize(self, _Shelf.close, self._shelf)

    def follow(self, coming: Sequence[int]) -> None:
        """Say which blocks are in use or will be, in the order of need; others are dropped."""
        self._shelf.follow(coming)

    def sizes(self, block: int, /) -> Sizes:
        """Sizes of the images that stand for a block; its pixels are there then, too."""
        return self._get(block).block.sizes

    def block(self, block: int) -> Block:
        """The images that stand for a block.

        Raises:
            OSError: the disk fails, or let `read_timeout_s` pass.
            DamagedError: more blocks are damaged than `max_bad_share` allows.
            ReaderClosedError: the reader was closed.
        """
        return self._get(block).block

    def table(self, block: int) -> pa.Table:
        """Further columns of the images that stand for a block."""
        return self._get(block).table

    def bad(self, block: int) -> BadBlock | None:
        """What is wrong with a block, and what stands for it; None if it is sound."""
        return self._get(block).bad

    @property
    def closed(self) -> bool:
        return not self.close.alive

    def _get(self, block: int) -> Served:
        served, new = self._shelf.ask(block, self._wait)
        if new:
            self._count(served)
        return served

    def _count(self, served: Served) -> None:
        """Bear a bad block now and then, not a broken dataset; counted in the order of the plan."""
        self._visits += 1
        if served.bad is None:
            return
        self._bad.add(served.bad.block)
        seen = min(self._visits, self.blocks)
        if len(self._bad) > max(1.0, self.config.max_bad_share * seen):
            raise DamagedError(
                f"dataset: at most 1 block or {self.config.max_bad_share:.2%} of the blocks read may be "
                f"damaged, got {len(self._bad)} of {seen}, the last of them: {served.bad.error}; restore the "
                "files that aqqua dataset verify names, or raise data.max_bad_share"
            )

    def _wait(self, block: int, waited_s: float) -> None:
        """Called again and again while a block is waited for: speak up, then give up."""
        name, group = self._dataset.place(block)
        what = f"{self._dataset.path / name} row group {group}"
        if waited_s > self.config.read_timeout_s:
            raise TimeoutError(
                f"dataset: {what} must be read within {self.config.read_timeout_s:g} s, got nothing in "
                f"{waited_s:.0f} s; look at the disk or the network, or raise data.read_timeout_s"
            )
        now = time.monotonic()
        if waited_s > SLOW_S and now > self._quiet_until:
            self._quiet_until = now + QUIET_S
            self.say(f"slow disk: waiting for {what} since {waited_s:.0f} s")


class _Shelf:
    """What is read and being read, shared with the threads."""

    def __init__(self, dataset: Dataset, config: ReadConfig, columns: tuple[str, ...]) -> None:
        self._dataset, self._columns = dataset, columns
        self._budget = config.read_ahead_mb * 1_000_000
        self._changed = Condition()  # guards all below
        self._held: dict[int, Served | Exception] = {}
        self._reading: set[int] = set()
        self._asked: set[int] = set()  # since `follow` names them: in use, outside the budget
        self._named: frozenset[int] = frozenset()
        self._urgent: deque[int] = deque()
        self._coming: deque[int] = deque()
        self._largest = dataset.manifest["pixel_bytes"] // dataset.blocks  # bytes of a block, estimated
        self._closed = False
        self._threads = [
            Thread(target=_work, args=(self,), name=f"reader-{i}", daemon=True)  # a hung disk holds no exit
            for i in range(config.read_threads)
        ]

    def follow(self, coming: Sequence[int]) -> None:
        with self._changed:
            self._named = frozenset(coming)
            self._held = {block: held for block, held in self._held.items() if block in self._named}
            self._asked &= self._named
            self._coming = deque(dict.fromkeys(coming))
            self._wake()

    def ask(self, block: int, waiting: Callable[[int, float], None]) -> tuple[Served, bool]:
        """A block as soon as it is there, and whether it is asked for the first time.

        Args:
            block: its number.
            waiting: called with it and the seconds waited, several times a second; may raise.
        """
        with self._changed:
            new = block not in self._asked
            self._asked.add(block)
            if block not in self._held and self._threads:
                self._urgent.append(block)
            if new:  # it no longer counts as read ahead: there may be room for another
                self._wake()
            started = time.monotonic()
            while block not in self._held and self._threads:
                self._check_open()
                waiting(block, time.monotonic() - started)
                self._changed.wait(POLL_S)
        if not self._threads:
            self._read_now(block)
        with self._changed:
            self._check_open()
            held = self._held[block]
            if isinstance(held, Exception):
                del self._held[block]  # who asks again starts a new attempt
                raise held
            return held, new

    def _read_now(self, block: int) -> None:
        if block not in self._held:
            self._held[block] = read_served(self._dataset, block, self._columns)

    def read_next(self) -> bool:
        """One thread's next read; waits until there is one to do. False when the reader is closed."""
        with self._changed:
            while (block := self._next()) is None and not self._closed:
                self._changed.wait()
            if block is None or self._closed:
                return False
            self._reading.add(block)
        held: Served | Exception
        try:
            held = read_served(self._dataset, block, self._columns, self._pause)
        except Exception as error:  # whatever it is, it is the consumer's to handle
            held = error
        with self._changed:
            self._reading.discard(block)
            if not self._closed and (block in self._named or block in self._asked):
                self._held[block] = held
                if isinstance(held, Served):
                    self._largest = max(self._largest, held.nbytes)
            self._changed.notify_all()
        return True

    def _next(self) -> int | None:
        while self._urgent:
            if not self._known(block := self._urgent.popleft()):
                return block
        while self._coming and self._known(self._coming[0]):
            self._coming.popleft()
        if self._coming and self._ahead_bytes() + self._largest <= self._budget:
            return self._coming.popleft()
        return None

    def _known(self, block: int) -> bool:
        return block in self._held or block in self._reading

    def _ahead_bytes(self) -> int:
        """Of blocks nobody asked for yet: those that lie here, and those being read at their likely size."""
        held = (h.nbytes for b, h in self._held.items() if b not in self._asked and isinstance(h, Served))
        return sum(held) + self._largest * len(self._reading - self._asked)

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
        with self._changed:
            self._closed = True
            self._held.clear()
            self._coming.clear()
            self._changed.notify_all()
        end = time.monotonic() + CLOSE_S
        for thread in self._threads:
            if thread.ident is not None and thread is not current_thread():
                thread.join(max(end - time.monotonic(), 0.0))


def _work(shelf: _Shelf) -> None:
    while shelf.read_next():
        pass
