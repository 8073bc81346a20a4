"""What keeps a run honest: numbers that are not finite, and signals that ask it to stop.

Test: tests/train/test_guard.py.
"""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

MAX_STREAK = 3  # steps in a row without a finite loss and gradient


class NonFiniteError(RuntimeError):
    """Three steps in a row gave no finite loss or gradient. The run's state is good, and saved."""

    exit_code = 3  # of the process: to try again is not enough


def not_finite(loss: float, grad_norms: dict[str, float]) -> list[str]:
    """Names of what is NaN or infinite: `loss`, or a sub-module whose gradient is."""
    return [name for name, value in {"loss": loss, **grad_norms}.items() if not math.isfinite(value)]


@dataclass
class FiniteGuard:
    """Counts steps that were skipped because their loss or gradient was not finite."""

    streak: int = 0
    skipped: int = 0

    def admits(self, loss: float, grad_norms: dict[str, float]) -> bool:
        """True if the step may be taken; False to skip it (no optimizer step, no teacher update)."""
        bad = bool(not_finite(loss, grad_norms))
        self.streak = self.streak + 1 if bad else 0
        self.skipped += bad
        return not bad

    @property
    def exhausted(self) -> bool:
        """So many steps in a row that the run should end."""
        return self.streak >= MAX_STREAK


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
