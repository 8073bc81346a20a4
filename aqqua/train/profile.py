"""Where a step's time goes: `aqqua pretrain ... profile=true` records a few steps and says so.

After some steps that warm up, torch's profiler records the next ones with the names of aqqua/train/spans.py,
on every rank. Beside the checkpoints, in the run's folder, then lie

    profile/step-<first>-rank-<r>.trace.json.gz   for https://ui.perfetto.dev (or chrome://tracing)
    profile/step-<first>-rank-<r>.json            the summary: spans, operators, operations, memory

Training goes on as if nothing had been; recorded steps are slower. Test: tests/train/test_profile.py.
"""

import gzip
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.profiler import ProfilerActivity, profile

from aqqua.train.spans import PREFIX, SPANS, named_spans

FOLDER = "profile"
OPERATORS = 15  # named in the summary, by their own time


class ProfileConfig(BaseModel):
    """What is recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after_steps: int = Field(default=5, ge=0, description="of a session, that warm up and are not recorded")
    steps: int = Field(default=5, ge=1, le=1000, description="recorded; 5 of ViT-S make some 10 MB")
    nvtx: bool = Field(
        default=False, description="instead: names and operators as NVTX ranges, for Nsight Systems around it"
    )


@dataclass(frozen=True)
class Share:
    """One span or operator, over the recorded steps."""

    name: str
    calls_per_step: float
    ms_per_step: float  # of an operator: its own time, without those it calls
    share: float  # of the step's time; spans of the feeder's thread run beside the step


@dataclass(frozen=True)
class Summary:
    """A profile in numbers."""

    first_step: int
    steps: int
    rank: int
    device: str
    ms_per_step: float  # while recorded, which slows it
    ms_of_step_before: float | None  # the last that was not recorded
    spans: list[Share]
    operators: list[Share]
    launches_per_step: float  # kernels on a GPU; dispatched operators on a CPU
    tflop_per_s: float  # of matrix products, as torch counts them, forward and backward
    peak_bytes: int | None  # of the GPU's memory; None on a CPU
    memory: list[tuple[float, int]] = field(repr=False)  # ms, bytes in use: spans.bytes_in_use

    def lines(self) -> list[str]:
        """For people."""
        unit = "kernels" if self.peak_bytes is not None else "operators"
        head = (
            f"{self.steps} steps from step {self.first_step} on {self.device}: {self.ms_per_step:.1f} ms a "
            f"step{self._slowed}, {self.launches_per_step:.0f} {unit} launched, "
            f"{self.tflop_per_s:.3g} TFLOP/s"
        )
        rows = [f"  {s.name:12} {s.ms_per_step:9.2f} ms {s.share:6.1%}" for s in self.spans]
        return [head, *rows]

    @property
    def _slowed(self) -> str:
        before = self.ms_of_step_before
        return "" if before is None else f" ({self.ms_per_step / before:.1f} times the step before them)"


@contextmanager
def profiling(
    config: ProfileConfig | None, folder: Path, rank: int, step: int, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each step; records, writes and tells when it is time.

    Args:
        config: None records nothing.
        folder: of the run.
        step: of training before the next one.
    """
    if config is None:
        yield lambda: None
        return
    with ExitStack() as open_until_end:
        recorder = _Recorder(config, folder / FOLDER, rank, step, say, open_until_end)
        yield recorder.after_step
        recorder.finish()


class _Recorder:
    """Starts, counts, ends."""

    def __init__(
        self, config: ProfileConfig, folder: Path, rank: int, step: int, say: Callable[[str], None],
        open_until_end: ExitStack,
    ) -> None:  # fmt: skip
        self._config, self._folder, self._rank, self._say = config, folder, rank, say
        self._open, self._step, self._taken = open_until_end, step, 0
        self._profiler: profile | None = None
        self._memory: list[tuple[int, int]] = []
        self._start_s, self._first_step = 0.0, 0
        self._ended_s, self._before_ms = time.perf_counter(), float("nan")
        if config.after_steps == 0:
            self._begin()

    def after_step(self) -> None:
        self._step, self._taken = self._step + 1, self._taken + 1
        if self._profiler is None:
            now_s = time.perf_counter()
            self._ended_s, self._before_ms = now_s, 1e3 * (now_s - self._ended_s)
        if self._taken == self._config.after_steps:
            self._begin()
        elif self._taken == self._config.after_steps + self._config.steps:
            self.finish()

    def _begin(self) -> None:
        self._memory = self._open.enter_context(named_spans())
        _wait_for_gpu()
        self._start_s, self._first_step = time.perf_counter(), self._step + 1
        if self._config.nvtx:
            self._open.enter_context(torch.autograd.profiler.emit_nvtx())
            return
        all_threads = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # the feeder's too
        kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * torch.cuda.is_available()]
        self._profiler = profile(activities=kinds, with_flops=True, experimental_config=all_threads)
        self._profiler.start()

    def finish(self) -> None:
        """Once; what was recorded is written, if anything was."""
        profiler, self._profiler = self._profiler, None
        steps = self._step + 1 - self._first_step
        _wait_for_gpu()
        seconds = time.perf_counter() - self._start_s
        if profiler is not None:
            profiler.stop()
        self._open.close()
        if profiler is not None and steps:
            self._write(profiler, steps, seconds)

    def _write(self, profiler: profile, steps: int, seconds: float) -> None:
        name = f"step-{self._first_step}-rank-{self._rank}"
        trace = self._folder / f"{name}.trace.json.gz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(trace))
            memory = _with_memory_track(trace, self._memory)
            before_ms = None if math.isnan(self._before_ms) else self._before_ms
            summary = _summary(profiler, self._first_step, steps, self._rank, seconds, before_ms, memory)
            (self._folder / f"{name}.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
        except OSError as error:
            self._say(f"the profile cannot be written ({error}); training goes on without it")
            return
        for line in [*summary.lines(), f"trace for https://ui.perfetto.dev: {trace}"]:
            self._say(line)


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _summary(
    profiler: profile,
    first: int,
    steps: int,
    rank: int,
    seconds: float,
    before_ms: float | None,
    memory: list[tuple[float, int]],
) -> Summary:
    averages: list[Any] = list(profiler.key_averages())
    on_gpu = torch.cuda.is_available()
    ms = 1e3 * seconds / steps

    def share(name: str, calls: int, microseconds: float) -> Share:
        each = microseconds / 1e3 / steps
        return Share(name, calls / steps, each, each / ms)

    by_name = {e.key: e for e in averages}
    spans = [
        share(name, e.count, e.cpu_time_total)
        for name in SPANS
        if (e := by_name.get(PREFIX + name)) is not None
    ]
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operators = [e for e in averages if not e.key.startswith((PREFIX, "ProfilerStep"))]
    operators.sort(key=lambda e: (-getattr(e, own), e.key))
    launches = sum(e.count for e in averages if e.key.startswith("cudaLaunch" if on_gpu else "aten::"))
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    return Summary(
        first_step=first, steps=steps, rank=rank, device=device, ms_per_step=ms, ms_of_step_before=before_ms,
        spans=spans,
        operators=[share(e.key, e.count, getattr(e, own)) for e in operators[:OPERATORS]],
        launches_per_step=launches / steps,
        tflop_per_s=sum(e.flops for e in averages) / seconds / 1e12,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None, memory=memory,
    )  # fmt: skip


def _with_memory_track(trace: Path, seen: list[tuple[int, int]]) -> list[tuple[float, int]]:
    """Adds the memory to the trace as a counter, which Perfetto draws as a curve.

    Returns:
        ms since the first moment, bytes.
    """
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        values = json.load(file)
    base_ns, in_order = int(values.get("baseTimeNanoseconds", 0)), sorted(seen)
    values["traceEvents"] += [
        {
            "name": "bytes in use",
            "ph": "C",
            "pid": os.getpid(),
            "ts": (ns - base_ns) / 1e3,
            "args": {"bytes": size},
        }
        for ns, size in in_order
    ]
    with gzip.open(trace, "wt", encoding="utf-8") as file:
        json.dump(values, file)
    return [((ns - in_order[0][0]) / 1e6, size) for ns, size in in_order]
