"""Names for the stretches of a training step, as profilers show them.

    plan -> read -> render                                            ahead, in the feeder's thread
    wait -> teacher -> sinkhorn -> student -> backward -> optimizer -> ema    the step

`read` is the feeder's wait for blocks that the readers have not brought yet, `wait` the step's for the
feeder; `communicate`, which lies within others, all that ranks tell each other. At both ends of each the
memory is looked at, and on a GPU the time of its stream, since kernels run later than they are launched.
Nothing is named, at no cost, but while a profiler runs (aqqua/train/profile.py), which is why this module
alone has a state: whether one does. Test: tests/train/test_profile.py.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import record_function

SPANS = (
    *("plan", "read", "render"),
    *("wait", "teacher", "sinkhorn", "student", "backward", "optimizer", "ema", "communicate"),
)
PREFIX = "aqqua/"  # before each name, so that no operator is taken for one


@dataclass
class Seen:
    """What spans looked at while a profiler ran."""

    memory: list[tuple[int, int]] = field(default_factory=list)  # moments (ns since 1970), bytes in use
    gpu: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)  # both ends
    clock: Callable[[], float] = time.perf_counter  # seconds, of the thread that asks
    host_s: dict[str, float] = field(default_factory=dict)  # by name, in sum

    def look(self) -> None:
        """At the memory."""
        self.memory.append((time.time_ns(), bytes_in_use()))

    def gpu_ms(self) -> dict[str, float]:
        """Of each name on its stream, from its first kernel to its last; call when the GPU is done."""
        spent: dict[str, float] = {}
        for name, start, end in self.gpu:
            spent[name] = spent.get(name, 0.0) + start.elapsed_time(end)
        return spent


_seen: Seen | None = None  # None: no profiler runs


def span(name: str) -> AbstractContextManager[object]:
    """What is done within is called `name`, one of SPANS, by a profiler that runs."""
    return nullcontext() if _seen is None else _named(name, _seen)


@contextmanager
def _named(name: str, seen: Seen) -> Iterator[None]:
    seen.look()
    began_s = seen.clock()
    with record_function(PREFIX + name):
        start = _gpu_moment()
        yield
        end = _gpu_moment()
    seen.host_s[name] = seen.host_s.get(name, 0.0) + seen.clock() - began_s
    if start is not None and end is not None:
        seen.gpu.append((name, start, end))
    seen.look()


def _gpu_moment() -> torch.cuda.Event | None:
    """On this thread's stream."""
    if not torch.cuda.is_available():
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


@contextmanager
def named_spans(clock: Callable[[], float] = time.perf_counter) -> Iterator[Seen]:
    """Within, `span` tells profilers, in all threads, and is timed by a clock."""
    global _seen
    seen = _seen = Seen(clock=clock)
    try:
        yield seen
    finally:
        _seen = None


def bytes_in_use() -> int:
    """Of the GPU by tensors; without one, of this process in memory."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")
