"""A sign of life of each process of a run, so that one that fell silent is named and nobody waits for it.

A thread of each rank writes a beat into the store through which the ranks met, and reads those of the others.
A process that was killed, stopped, or lost with its machine beats no more; its peers may by then hang in a
call that no exception ends (NCCL). So the thread ends its own process, with a sentence that names the rank.
A process that lives but is late is none of its business: the time limit of the calls ends those, and the
beats tell who made the fewest. Test: tests/train/test_heartbeat.py.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

BEATS = 20  # within the longest silence
SHORTEST_S, LONGEST_S = 0.1, 1.0  # between two beats; each costs the store a look-up per rank
MISSED = 3  # beats after which a rank is to blame for a call that failed
LOST = 1  # exit status


@runtime_checkable
class Store(Protocol):
    """What is asked of torch.distributed's store."""

    def set(self, key: str, value: str, /) -> None:
        """Write."""

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """Read; waits until all are there."""
        ...


@dataclass
class _Peer:
    beat: int = -1
    seen_s: float = 0.0  # when its beat last changed, by our clock
    calls: int = 0
    host: str = ""
    failed: str | None = None
    left: bool = False


def _leave(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    os._exit(LOST)


class Heartbeat:
    """The beats of one rank, and what it hears of the others."""

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        timeout_s: float,
        *,
        leave: Callable[[str], object] = _leave,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.calls = 0  # that this rank joined; the same on all ranks unless one is late
        self.rank, self.timeout_s = rank, timeout_s
        self.every_s = min(max(timeout_s / BEATS, SHORTEST_S), LONGEST_S)
        self._store, self._leave, self._clock, self._pause = store, leave, clock, pause
        self._peers = {other: _Peer(seen_s=clock()) for other in range(size)}
        self._beats, self._failed, self._left = 0, "", False
        self._heard_s, self._broken = clock(), ""  # of the store; an error of it
        self._end = threading.Event()
        # Two threads: a store whose host is stopped, not gone, keeps its caller for ever.
        self._threads = [
            threading.Thread(target=run, name="heartbeat", daemon=True)
            for run in (self._keep_talking, self._keep_watching)
        ]
        self._beat()

    def start(self) -> None:
        """Begin, once all ranks have written their first beat."""
        for thread in self._threads:
            thread.start()

    def stop(self, failure: str = "") -> None:
        """Say goodbye; with the reason if this process fails, so that the others can tell."""
        self._end.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(self.every_s)
        self._failed, self._left = failure[:500], not failure
        try:
            self._beat()
        except RuntimeError:
            return  # the store went with the process that kept it
        if failure:
            self._pause(self.every_s)  # if this one keeps the store, the others can still read why

    def talk(self) -> None:
        """Beat once and listen once."""
        try:
            self._beat()
            self._listen()
        except RuntimeError as error:  # the store's errors are all of this type
            self._broken = f" ({error})"

    def lost(self, longest_s: float) -> str | None:
        """The sentence about a rank that failed or was silent for so long, if there is one."""
        if self._broken or self._clock() - self._heard_s > longest_s:
            return f"rank 0 or the launcher, which keeps the store of all ranks, is silent{self._broken}"
        others = {other: peer for other, peer in self._peers.items() if other != self.rank and not peer.left}
        for other, peer in others.items():
            if peer.failed:
                return f"rank {other} on {peer.host} failed ({peer.failed})"
        silent = [(peer.seen_s, other) for other, peer in others.items()]
        seen_s, other = min(silent, default=(self._heard_s, 0))
        if self._heard_s - seen_s <= longest_s:
            return None
        return f"rank {other} on {others[other].host} is silent since {self._clock() - seen_s:.1f} s"

    def blame(self) -> str:
        """Who is to blame for a call that failed; takes a few beats, since only silence can tell."""
        deadline = self._clock() + (MISSED + 2) * self.every_s
        while self._clock() < deadline:
            if found := self.lost(MISSED * self.every_s):
                return found
            self._pause(self.every_s / 4)
        late = min(self._peers, key=lambda other: self._peers[other].calls)
        if self._peers[late].calls < self.calls:
            return f"rank {late} on {self._peers[late].host} is alive but late for the others"
        return "the connection between ranks failed"

    def _keep_talking(self) -> None:
        while not (self._broken or self._end.wait(self.every_s)):
            self.talk()

    def _keep_watching(self) -> None:
        while not self._end.wait(self.every_s / 2):
            lost = self.lost(self.timeout_s)
            if lost and not self._end.wait(self.every_s / 2):  # its own call may fail too, and say so
                self._leave(f"aqqua: rank {self.rank}: {lost}; this one ends, the last checkpoint is whole")
                return

    def _beat(self) -> None:
        self._beats += 1
        value = {"beat": self._beats, "calls": self.calls, "host": socket.gethostname(),
                 "failed": self._failed, "left": self._left}  # fmt: skip
        self._store.set(f"beat/{self.rank}", json.dumps(value))

    def _listen(self) -> None:
        found = self._store.multi_get([f"beat/{other}" for other in self._peers])
        now = self._clock()
        for peer, raw in zip(self._peers.values(), found, strict=True):
            said: dict[str, Any] = json.loads(raw)
            if said["beat"] != peer.beat:
                peer.beat, peer.seen_s = said["beat"], now
            peer.calls, peer.host = said["calls"], said["host"]
            peer.failed, peer.left = said["failed"], said["left"]
        self._heard_s = now
