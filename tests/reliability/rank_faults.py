"""What happens to one process of a run: signals, deaths, silences and flipped bits, at a step or a moment.

Used as `meddle` of tests/train/crew.py: each function is called in a rank's own process before it trains.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aqqua.store.read import Dataset
from aqqua.train import loop
from aqqua.train.data import StepData
from aqqua.train.run import Run
from aqqua.train.step import Outcome, Rates, take_step

Step = Callable[[Run, StepData, Rates], Outcome]
Moment = Literal["start", "step", "save"]
LossKind = Literal["killed", "stopped", "starved", "hung"]
FOR_EVER_S = 3600.0


def around_steps(wrap: Callable[[Step, Run, StepData, Rates], Outcome]) -> None:
    """Every step of this process is taken by `wrap`, which gets the real one."""

    def wrapped(run: Run, data: StepData, rates: Rates) -> Outcome:
        return wrap(take_step, run, data, rates)

    loop.take_step = wrapped


def note_now(file: Path) -> None:
    """The time, on the clock that all processes of a machine share."""
    part = file.with_suffix(".part")
    part.write_text(repr(time.monotonic()), encoding="utf-8")
    part.replace(file)


def noted(file: Path) -> float | None:
    return float(file.read_text(encoding="utf-8")) if file.exists() else None


@dataclass(frozen=True)
class Signal:
    """A signal to one rank, `delay_s` after a moment of its run; maybe once more."""

    number: signal.Signals
    rank: int
    moment: Moment  # of the process, of its nth step, of its first save
    nth: int
    delay_s: float
    again_s: float | None
    note: Path  # gets the time it was sent

    def meddle(self, rank: int) -> None:
        if rank != self.rank:
            return
        came = threading.Event()
        if self.moment == "start":
            came.set()
        elif self.moment == "step":
            self._at_step(came)
        else:
            self._at_save(came)
        threading.Thread(target=self._send, args=(came,), daemon=True).start()

    def _at_step(self, came: threading.Event) -> None:
        steps: list[int] = []

        def counted(step: Step, run: Run, data: StepData, rates: Rates) -> Outcome:
            steps.append(run.step)
            if len(steps) == self.nth:
                came.set()
            return step(run, data, rates)

        around_steps(counted)

    def _at_save(self, came: threading.Event) -> None:
        save = Run.save

        def told(run: Run) -> None:
            came.set()
            save(run)

        Run.save = told  # type: ignore[method-assign, assignment]

    def _send(self, came: threading.Event) -> None:
        came.wait()
        time.sleep(self.delay_s)
        note_now(self.note)
        os.kill(os.getpid(), self.number)
        if self.again_s is not None:
            time.sleep(self.again_s)
            os.kill(os.getpid(), self.number)


@dataclass(frozen=True)
class Loss:
    """How one rank is lost at a step; `note` gets the time from which the others can know."""

    kind: LossKind
    rank: int
    step: int
    note: Path

    def meddle(self, rank: int) -> None:
        if rank == self.rank:
            around_steps(self._until_lost)

    def _until_lost(self, step: Step, run: Run, data: StepData, rates: Rates) -> Outcome:
        if self.kind == "starved":
            return self._starve(step, run, data, rates)
        if run.step + 1 == self.step:
            note_now(self.note)
            self._lose()
        return step(run, data, rates)

    def _lose(self) -> None:
        if self.kind == "hung":
            time.sleep(FOR_EVER_S)
        os.kill(os.getpid(), signal.SIGKILL if self.kind == "killed" else signal.SIGSTOP)

    def _starve(self, step: Step, run: Run, data: StepData, rates: Rates) -> Outcome:
        """From here on no block comes; what was read ahead is used up first."""
        if run.step + 1 == self.step:
            Dataset.block_with = _never  # type: ignore[method-assign, assignment]
        outcome = step(run, data, rates)
        note_now(self.note)
        return outcome


def _never(_self: Dataset, _block: int, _columns: Sequence[str]) -> Any:
    time.sleep(FOR_EVER_S)


def slow_on_rank_1(rank: int) -> None:
    """Ten times as long for every step."""

    def slowly(step: Step, run: Run, data: StepData, rates: Rates) -> Outcome:
        started = time.monotonic()
        outcome = step(run, data, rates)
        time.sleep(9 * (time.monotonic() - started))
        return outcome

    if rank == 1:
        around_steps(slowly)
