"""Which rank the others wait for.

All ranks take a step in the same time, since each waits for the slowest in every exchange. What tells them
apart is the time a rank needs by itself until the first exchange of a step: its data, the host's work, the
teacher's forward pass over its packs, which has as many tokens on every rank. Waiting in the exchanges
before it (`Ranks.waited_s`) does not count. Behind it nobody's time is his own; a machine that is slow there
is slow here too.

On a GPU the host is done long before the device is, so the forward pass is timed by two CUDA events, from
the moment the device comes to it. They are read when ranks are compared, after the step's own wait for the
device: no further one. Times are compared once in WINDOW steps, by one number per rank.
Test: tests/train/test_straggler.py.
"""

import socket
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from aqqua.train.ranks import Ranks

WINDOW = 10  # steps between comparisons, so that a rank is named within 20
SLOW = 1.5  # times the median of the others, from which on a rank is named
LEAST_S = 0.01  # a step that a rank must be behind: less is not worth a line, and often noise


class Stragglers:
    """One rank's own time, and the comparison with the others. Alone it does nothing."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self._ranks, self._cuda = ranks, device.type == "cuda"
        self._host_s, self._steps = 0.0, 0
        self._start_s = self._waited_s = 0.0
        self._forwards: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._warm = False  # the first step of a process compiles and allocates
        self._hosts: list[str] = []
        self._named: set[int] = set()
        self.numbers: dict[str, Any] = {}  # for metrics.jsonl, from the last comparison

    def begin(self) -> None:
        """A step begins: this rank asks for its data."""
        self._start_s, self._waited_s = time.monotonic(), self._ranks.waited_s

    def forward(self) -> None:
        """The data is there, the forward pass begins."""
        if self._ranks.size > 1 and self._cuda:
            self._count_host()
            self._forwards.append(
                (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            )
            self._forwards[-1][0].record()

    def exchange(self) -> None:
        """The first exchange is next."""
        if self._ranks.size == 1:
            return
        if self._cuda:
            self._forwards[-1][1].record()
        else:
            self._count_host()
        self._steps += 1
        if not self._warm:
            self._host_s, self._steps, self._forwards, self._warm = 0.0, 0, [], True

    def _count_host(self) -> None:
        waited_s = self._ranks.waited_s - self._waited_s
        self._host_s += time.monotonic() - self._start_s - waited_s

    def compare(self, say: Callable[[str], None]) -> None:
        """Of all ranks, since the last comparison; `say` gets a line for each that became slow."""
        if self._ranks.size == 1 or not self._steps:
            return
        self._hosts = self._hosts or self._ranks.gather(socket.gethostname())
        own_s = [row[0] / 1e6 for row in self._ranks.table([round(self._read() * 1e6)])]
        behind = factors(own_s)
        slowest = max(range(len(behind)), key=behind.__getitem__)
        self.numbers = {"slowest_rank": slowest, "slowest_factor": behind[slowest]}
        slow = {
            rank
            for rank, factor in enumerate(behind)
            if factor > SLOW and own_s[rank] * (1 - 1 / factor) > LEAST_S
        }
        for rank in sorted(slow - self._named):
            say(
                f"rank {rank} on {self._hosts[rank]} is slow: the others wait for it, it needs "
                f"{behind[rank]:.1f} times their median for its data and its forward pass"
            )
        self._named = slow

    def _read(self) -> float:
        """Seconds a step of this rank's own time; then anew."""
        device_ms = 0.0
        for start, end in self._forwards:
            end.synchronize()  # over since the step's end
            device_ms += start.elapsed_time(end)
        found = (self._host_s + device_ms / 1e3) / self._steps
        self._host_s, self._steps, self._forwards = 0.0, 0, []
        return found


def factors(own_s: Sequence[float]) -> list[float]:
    """Each rank's time over the median of the others'; two ranks or more."""
    found = []
    for rank, mine in enumerate(own_s):
        others = median([theirs for other, theirs in enumerate(own_s) if other != rank])
        found.append(mine / max(others, 1e-6))
    return found
