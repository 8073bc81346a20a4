"""Predicted beside measured, on the device at hand: a few real steps of a config, from which nothing is kept.

Operations and bytes are counted from the packs that the steps took (aqqua/train/useful.py). The pace of each
stretch of a step (operations or bytes a second: the device's measured MFU, by stretch) is that of the first
half of the steps; from it the second half is predicted. Memory is predicted by aqqua/cost/memory.py, as it is
for GPUs, and measured as the peak of what tensors hold. Where one thread computes, its own clock counts, so
that a busy machine does not decide. Test: tests/cost/test_measure.py; in full: bench/train/plan_check.py.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from aqqua.cost.engines import engines_of
from aqqua.cost.estimate import memory_of
from aqqua.cost.memory import Memory
from aqqua.cost.table import aligned
from aqqua.plan.pack import Pack
from aqqua.progress import count
from aqqua.train.distill import distilled_from
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.spans import named_spans
from aqqua.train.step import rates_at, take_step
from aqqua.train.useful import Useful, peak_tflop_s

WARM_STEPS = 1
LEAST_STEPS = 2


@dataclass(frozen=True)
class Compared:
    """A number of a part, predicted and measured."""

    part: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured if self.measured else float("nan")


@dataclass(frozen=True)
class Stretches:
    """Some steps: what each stretch of them had to do, and the seconds it took."""

    steps: int
    todo: dict[str, float]  # aqqua.cost.work.Workload.stretches
    seconds: dict[str, float]

    def predicted(self, other: "Stretches") -> dict[str, float]:
        """Seconds of other steps at this pace."""
        return {name: other.todo[name] * self.seconds[name] / self.todo[name] for name in self.todo}


@dataclass(frozen=True)
class Measured:
    """What a few steps took here."""

    device: str
    steps: int  # that were predicted
    tflop_per_s: float
    mfu: float | None  # None: no peak of the device is known
    step_s: tuple[Compared, ...]  # by stretch, of a step; the last is the whole step
    tensor_bytes: Compared
    predicted_bytes: Memory
    pace: Stretches  # of the first half
    taken: Stretches  # the second

    @property
    def whole_step_s(self) -> Compared:
        return self.step_s[-1]


def measure(config: PretrainConfig, steps: int) -> Measured:
    """Take some steps of a config, in a folder that is gone then.

    Raises:
        ValueError: fewer steps than can be halved, or a run that cannot begin.
    """
    if steps < LEAST_STEPS:
        raise ValueError(f"plan: --steps must be at least {LEAST_STEPS} to measure, got {steps}; take more")
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config.model_copy(update={"run": Path(folder) / "run"}))
        peak, followed = peak_tflop_s(run.device, run.ranks), distilled_from(run.model.followed)
        useful = Useful.of(run.config, run.device, run.compute_dtype, peak, followed)
        with closing(run.feeder.steps(run.lanes, run.step)) as coming:
            _take(run, coming, useful, WARM_STEPS)
            first = _take(run, coming, useful, steps // 2)
            second = _take(run, coming, useful, steps - steps // 2)
            packs, held = tensor_peak(run, coming)
    work = useful.work(packs)
    predicted = memory_of(replace(work, lanes=len(packs)), engines_of(config)[0], 1)
    parts = _compare(first, second)
    flops = sum(second.todo[name] for name in ("teacher", "student", "backward")) / second.steps
    told = useful.numbers(flops, parts[-1].measured)
    return Measured(
        _device_name(run.device), second.steps, told["tflop_per_s"], told.get("mfu"), parts,
        Compared("tensors", predicted.total, held), predicted, first,
        second,
    )  # fmt: skip


def _compare(first: Stretches, second: Stretches) -> tuple[Compared, ...]:
    predicted = first.predicted(second)
    n = second.steps
    parts = [Compared(name, predicted[name] / n, second.seconds[name] / n) for name in predicted]
    whole = Compared("step", sum(p.predicted for p in parts), sum(p.measured for p in parts))
    return (*parts, whole)


def _clock() -> Callable[[], float]:
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.thread_time if alone else time.perf_counter


def _take(run: Run, coming: Iterator[Any], useful: Useful, steps: int) -> Stretches:
    """Take so many steps, each from the wait for its data to weights that have moved."""
    todo: dict[str, float] = {}
    clock = _clock()
    with named_spans(clock) as seen:
        _wait_for_gpu()
        began_s = clock()
        for _ in range(steps):
            for number, pack in enumerate(_one_step(run, coming)):
                for name, value in useful.work([pack]).stretches().items():
                    if number == 0 or name != "optimizer":  # which runs once a step
                        todo[name] = todo.get(name, 0.0) + value
        _wait_for_gpu()
        seconds = clock() - began_s
    spent = {name: ms / 1e3 for name, ms in seen.gpu_ms().items()} or seen.host_s
    parts = {name: spent.get(name, 0.0) for name in todo if name != "other"}
    parts["optimizer"] += spent.get("ema", 0.0)
    return Stretches(steps, todo, {**parts, "other": max(seconds - sum(parts.values()), 0.0)})


def _one_step(run: Run, coming: Iterator[Any]) -> list[Pack]:
    data = next(coming)
    outcome = take_step(run, data, rates_at(run))
    run.advance(data, outcome.n_images)
    return list(data.packs)


def tensor_peak(run: Run, coming: Iterator[Any]) -> tuple[list[Pack], float]:
    """A step's packs, and the most bytes that tensors held in it.

    On a CPU by the profiler's record of every allocation, and what was held before.
    """
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.device)
        packs = _one_step(run, coming)
        return packs, float(torch.cuda.max_memory_allocated(run.device))
    run.engine.clear()  # gradients of the step before: their end would not be recorded
    before = sum(tensor.nbytes for _, tensor in run.engine.tensors())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        packs = _one_step(run, coming)
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return packs, float(before + most)


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {count(torch.get_num_threads(), 'thread')}"


def measured_lines(found: Measured) -> list[str]:
    """For people."""
    mfu = "" if found.mfu is None else f", MFU {found.mfu:.3f}"
    held = found.tensor_bytes
    rows = [
        (part.part, f"{1e3 * part.predicted:.1f}", f"{1e3 * part.measured:.1f}", f"{part.ratio:.2f}")
        for part in found.step_s
    ]
    rows.append((held.part, f"{held.predicted / 1e9:.3f}", f"{held.measured / 1e9:.3f}", f"{held.ratio:.2f}"))
    table = aligned(("ms; GB", "predicted", "measured", "ratio"), rows)
    head = f"measured   {count(found.steps, 'step')} on {found.device}: {found.tflop_per_s:.3g} TFLOP/s{mfu}"
    return [head, *table]
