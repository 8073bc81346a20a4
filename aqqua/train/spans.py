"""Names for the stretches of a training step, as profilers show them.

    plan -> read -> render                                      ahead, in the feeder's thread
    teacher -> sinkhorn -> student -> backward -> optimizer -> ema    the step; communicate lies within

`read` is the wait for blocks that the readers have not brought yet; `communicate`, all that ranks tell each
other. At both ends of each the memory is looked at. Nothing is named, at no cost, but while a profiler runs
(aqqua/train/profile.py), which is why this module alone has a state: whether one does.
Test: tests/train/test_profile.py.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch.profiler import record_function

SPANS = (
    *("plan", "read", "render"),
    *("teacher", "sinkhorn", "student", "backward", "optimizer", "ema", "communicate"),
)
PREFIX = "aqqua/"  # before each name, so that no operator is taken for one

Look = Callable[[], None]  # at the memory
_look: Look | None = None  # None: no profiler runs


def span(name: str) -> AbstractContextManager[object]:
    """What is done within is called `name`, one of SPANS, by a profiler that runs."""
    return nullcontext() if _look is None else _named(name, _look)


@contextmanager
def _named(name: str, look: Look) -> Iterator[None]:
    look()
    with record_function(PREFIX + name):
        yield
    look()


@contextmanager
def named_spans() -> Iterator[list[tuple[int, int]]]:
    """Within, `span` tells profilers, in all threads; gives moments (ns since 1970) and bytes in use."""
    global _look
    seen: list[tuple[int, int]] = []

    def look() -> None:
        seen.append((time.time_ns(), bytes_in_use()))

    _look = look
    try:
        yield seen
    finally:
        _look = None


def bytes_in_use() -> int:
    """Of the GPU by tensors; without one, of this process in memory."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")
