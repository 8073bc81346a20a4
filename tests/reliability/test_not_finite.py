"""NaN, ±inf and 1e30 in loss, gradient or pixels, on all ranks or one: the step leaves no trace anywhere.

Every second step of a run of two ranks is spoiled in another way. 1e30 is finite: as a gradient its square
is not, in float32, so its norm is infinite and the step is skipped, which is right: clipped, it would be a
step in the direction of one number that cannot be true.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import train_well
from rank_faults import Step, around_steps
from same_run import numbers, saved
from small_runs import config_of
from torch import Tensor

from aqqua.objective.ssl import Losses
from aqqua.train.data import StepData
from aqqua.train.guard import fingerprint
from aqqua.train.run import Run
from aqqua.train.step import Outcome, Rates

VALUES = (math.nan, math.inf, -math.inf, 1e30)
PLACES = (
    *("loss", "loss on one rank", "gradient", "gradient on one rank"),
    *("pixel on one rank", "batch on one rank"),
)
CASES = tuple(itertools.product(PLACES, VALUES))
STREAK = 2  # every second step is good: three bad ones in a row would end the run


@contextmanager
def spoiled(place: str, value: float, run: Run, data: StepData) -> Iterator[None]:
    """While it lasts a step of this rank meets the value."""
    with ExitStack() as stack:
        if place.startswith("loss"):
            learn = run.engine.learn
            run.engine.learn = _learning(learn, value)  # type: ignore[method-assign]
            stack.callback(setattr, run.engine, "learn", learn)
        elif place.startswith("gradient"):
            weight = run.model.student.get_parameter("backbone.blocks.1.mlp.fc2.weight")
            stack.callback(weight.register_hook(_one_value(value)).remove)
        else:
            where: Any = (5, 7) if place.startswith("pixel") else ...
            data.batches[0].patches_NF[where] = value
        yield


def _learning(learn: Callable[..., Losses], value: float) -> Callable[..., Losses]:
    """NaN and inf are added: the loss alone tells. 1e30 is a factor, of the gradients too."""

    def spoil(*args: Any) -> Losses:
        losses = learn(*args)
        total = losses.total + value if not math.isfinite(value) else losses.total * value
        return replace(losses, total=total)

    return spoil


def _one_value(value: float) -> Callable[[Tensor], Tensor]:
    def spoil(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        spoilt.view(-1)[3] = value
        return spoilt

    return spoil


@dataclass(frozen=True)
class Spoiler:
    """Spoils every second step of this process, and notes what that changed."""

    folder: Path

    def meddle(self, rank: int) -> None:
        def spoil(step: Step, run: Run, data: StepData, rates: Rates) -> Outcome:
            case = run.step // STREAK
            if run.step % STREAK == 0 or case >= len(CASES):
                return step(run, data, rates)
            place, value = CASES[case]
            before = {name: x.clone() for name, x in run.engine.tensors()}
            with ExitStack() as stack:
                if rank == 1 or "one rank" not in place:
                    stack.enter_context(spoiled(place, value, run, data))
                outcome = step(run, data, rates)
            self._note(rank, run, before, outcome)
            return outcome

        around_steps(spoil)

    def _note(self, rank: int, run: Run, before: dict[str, Tensor], outcome: Outcome) -> None:
        after = dict(run.engine.tensors())
        changed = [name for name in before if not torch.equal(after[name], before[name])]
        hashed = hash(tuple(fingerprint(x) for x in after.values()))
        line = {
            "step": run.step + 1, "taken": outcome.taken, "changed": changed, "hash": hashed,
            "more": len(after) - len(before), "moments": sum(name.startswith("optimizer.") for name in after),
        }  # fmt: skip
        with (self.folder / f"rank{rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.reliability("9")
def test_a_step_that_is_not_finite_leaves_no_trace(sample_dataset, tmp_path, measured):
    steps, run = STREAK * len(CASES) + 1, tmp_path / "run"
    config = config_of(
        run,
        sample_dataset,
        steps,
        data={"pack_tokens": 1000},
        train={"hash_every": 1, "checkpoint_every": 1000},
    )
    train_well(2, config, meddle=Spoiler(tmp_path).meddle)
    ranks = [lines_of(tmp_path / f"rank{rank}.jsonl") for rank in (0, 1)]
    taken = [case for case, line in zip(CASES, ranks[0], strict=True) if line["taken"]]
    traces = sum(bool(line["changed"] or line["more"]) for lines in ranks for line in lines)
    agree = sum(a["hash"] == b["hash"] and a["taken"] == b["taken"] for a, b in zip(*ranks, strict=True))
    images = [0, *(row["images"] for row in numbers(run))]
    logged = {line["step"]: line["images"] for line in lines_of(run / "skipped.jsonl")}
    named = sum(len(names) == images[step] - images[step - 1] for step, names in logged.items())
    measured(
        f"{len(CASES) - len(taken)} of {len(CASES)} skipped (taken: {taken or 'none'}), {traces} traces in "
        f"weights, teacher or moments, ranks agree in {agree}, all images named in {named}"
    )
    assert taken == []
    assert traces == 0
    assert agree == len(CASES)
    assert [*logged] == [STREAK * (i + 1) for i in range(len(CASES))]
    assert named == len(CASES)
    assert all(line["moments"] > 0 for line in ranks[0])
    assert saved(run).state["guard"]["skipped"] == len(CASES)
