"""Signals that ask a run to stop. Imports nothing heavy: it listens while all else is imported.

Test: tests/train/test_stop_signals.py.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class StopFlag:
    """Set by SIGINT or SIGTERM; the loop looks at it between steps."""

    signal_name: str | None = field(default=None)

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Turn SIGINT, SIGTERM and SIGUSR1 into a flag; a second SIGINT stops at once."""
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if flag and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.signal_name = signal.Signals(number).name

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in names}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
