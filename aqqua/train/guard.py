"""What keeps a run honest: numbers that are not finite, and signals that ask it to stop.

Test: tests/train/test_guard.py.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

MAX_STREAK = 3  # steps in a row without a finite loss and gradient


class NonFiniteError(RuntimeError):
    """Three steps in a row gave no finite loss or gradient; the last good checkpoint stands."""


@dataclass
class FiniteGuard:
    """Counts steps that were skipped because their loss or gradient was not finite."""

    streak: int = 0
    skipped: int = 0

    def admits(
        self, loss: float, grad_norms: dict[str, float], step: int, images: Callable[[], list[str]]
    ) -> bool:
        """True if the step may be taken; False to skip it (no optimizer step, no teacher update).

        Raises:
            NonFiniteError: this is the third such step in a row.
        """
        bad = [name for name, value in {"loss": loss, **grad_norms}.items() if not _finite(value)]
        if not bad:
            self.streak = 0
            return True
        self.streak += 1
        self.skipped += 1
        if self.streak >= MAX_STREAK:
            raise NonFiniteError(
                f"step {step}: loss and gradients must be finite, got {', '.join(bad)} not finite in "
                f"{self.streak} steps in a row; the last checkpoint is good: lower optim.lr, or look at the "
                f"images named in skipped.jsonl (now: {', '.join(images()[:8])}, ...)"
            )
        return False


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


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
