"""Progress bars on a terminal, sparse lines in a log file."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 15.0  # between lines where there is no terminal


def count(number: int, thing: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def silent(_done: int) -> None:
    """Progress that nobody watches."""


class Bar:
    """One long piece of work. On a terminal a live bar; elsewhere a line now and then. Or not shown."""

    def __init__(self, title: str, total: int | None, unit: str = "", *, shown: bool = True) -> None:
        self.title, self.total, self.unit, self.shown = title, total, unit, shown
        self._console = Console(stderr=True, highlight=False, quiet=not shown)
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> "Bar":
        if self.shown and self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._live.add_task(self.title, total=self.total, note=self.unit)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def stage(self, title: str, unit: str) -> None:
        """Another part of the work begins, counted from 0; naming the present one again changes nothing."""
        if (title, unit) == (self.title, self.unit):
            return
        self.title, self.unit, self.total = title, unit, None
        if self._live is not None and self._task is not None:
            self._live.reset(self._task, description=title, total=None, note=unit)

    def update(self, done: int, note: str = "", *, total: int | None = None) -> None:
        """So much is done, of so much in all where that is known only now."""
        self.total = self.total if total is None else total
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, total=self.total, note=note or self.unit)
        elif self.shown and time.monotonic() - self._last_line > LOG_EVERY_S:
            self._last_line = time.monotonic()
            share = f" of {self.total}" if self.total else ""
            sys.stderr.write(f"{self.title}: {done}{share} {self.unit} {note}\n")

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False, soft_wrap=True)
