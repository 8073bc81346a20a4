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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from aqqua.plan.pack import Pack
from aqqua.train.spans import PREFIX, SPANS, Seen, named_spans

if TYPE_CHECKING:  # it takes the run's config, which has ours
    from aqqua.train.useful import Useful

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
    gpu_ms_per_step: float | None = None  # of a span on a GPU, whose kernels run after their launch


@dataclass
class Work:
    """What the recorded steps of this rank had to do."""

    steps: int = 0
    flops: float = 0.0  # useful: aqqua/train/useful.py
    moved_bytes: float = 0.0  # by its passes over memory, products left out: aqqua/cost/traffic.py


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
    waiting_share: float  # of the step's time, for data
    tflop_per_s: float  # useful operations of this rank over all of its time
    counted_tflop_per_s: float  # the same of matrix products that torch's profiler knows, useful or not
    gb_per_s: float  # that its passes over memory must move, products left out, over all of its time
    peak_bytes: int | None  # of the GPU's memory; None on a CPU
    memory: list[tuple[float, int]] = field(repr=False)  # ms, bytes in use: spans.bytes_in_use

    def lines(self) -> list[str]:
        """For people."""
        unit = "kernels" if self.peak_bytes is not None else "operators"
        head = (
            f"{self.steps} steps from step {self.first_step} on {self.device}: {self.ms_per_step:.1f} ms a "
            f"step{self._slowed}, {self.launches_per_step:.0f} {unit} launched, "
            f"{self.tflop_per_s:.3g} TFLOP/s, {self.gb_per_s:.3g} GB/s, {self.waiting_share:.1%} waiting for "
            "data"
        )
        rows = [
            f"  {s.name:12} {s.ms_per_step:9.2f} ms {s.share:6.1%}"
            + ("" if s.gpu_ms_per_step is None else f"   {s.gpu_ms_per_step:9.2f} ms on the GPU")
            for s in self.spans
        ]
        return [head, *rows]

    @property
    def _slowed(self) -> str:
        before = self.ms_of_step_before
        return "" if before is None else f" ({self.ms_per_step / before:.1f} times the step before them)"


@contextmanager
def profiling(
    config: ProfileConfig | None,
    folder: Path,
    rank: int,
    step: int,
    say: Callable[[str], None],
    useful: "Useful",
) -> Iterator[Callable[[Sequence[Pack], bool], None]]:
    """Gives what is to be called after each step, with its packs; records, writes and tells when it is time.

    Args:
        config: None records nothing.
        folder: of the run.
        step: of training before the next one.
        useful: counts the work of packs.
    """
    if config is None:
        yield lambda _packs, _anchored: None
        return
    with ExitStack() as open_until_end:
        recorder = _Recorder(config, folder / FOLDER, rank, step, say, useful, open_until_end)
        yield recorder.after_step
        recorder.finish()


class _Recorder:
    """Starts, counts, ends."""

    def __init__(
        self, config: ProfileConfig, folder: Path, rank: int, step: int, say: Callable[[str], None],
        useful: "Useful", open_until_end: ExitStack,
    ) -> None:  # fmt: skip
        self._config, self._folder, self._rank, self._say = config, folder, rank, say
        self._useful, self._work = useful, Work()
        self._open, self._step, self._taken = open_until_end, step, 0
        self._profiler: profile | None = None
        self._seen = Seen()
        self._start_s, self._first_step = 0.0, 0
        self._ended_s, self._before_ms = time.perf_counter(), float("nan")
        if config.after_steps == 0:
            self._begin()

    def after_step(self, packs: Sequence[Pack], anchored: bool = True) -> None:
        self._step, self._taken = self._step + 1, self._taken + 1
        if self._profiler is None:
            now_s = time.perf_counter()
            self._ended_s, self._before_ms = now_s, 1e3 * (now_s - self._ended_s)
        else:
            self._work.steps += 1
            self._work.flops += self._useful.flops(packs, anchored)
            self._work.moved_bytes += self._useful.moved_bytes(packs, anchored)
        if self._taken == self._config.after_steps:
            self._begin()
        elif self._taken == self._config.after_steps + self._config.steps:
            self.finish()

    def _begin(self) -> None:
        self._seen = self._open.enter_context(named_spans())
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
        _wait_for_gpu()
        seconds = time.perf_counter() - self._start_s
        if profiler is not None:
            profiler.stop()
        self._open.close()
        if profiler is not None and self._work.steps:
            self._write(profiler, seconds)

    def _write(self, profiler: profile, seconds: float) -> None:
        name = f"step-{self._first_step}-rank-{self._rank}"
        trace = self._folder / f"{name}.trace.json.gz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(trace))
            memory = _with_memory_track(trace, self._seen.memory)
            before_ms = None if math.isnan(self._before_ms) else self._before_ms
            summary = _summary(
                profiler, self._first_step, self._work, self._rank, seconds, before_ms, memory,
                self._seen.gpu_ms(),
            )  # fmt: skip
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
    work: Work,
    rank: int,
    seconds: float,
    before_ms: float | None,
    memory: list[tuple[float, int]],
    gpu_ms: dict[str, float],
) -> Summary:
    """In numbers; more arguments than usual, since each is from a source of its own."""
    averages: list[Any] = list(profiler.key_averages())
    on_gpu, steps = torch.cuda.is_available(), work.steps
    spans = _spans(averages, steps, seconds, gpu_ms)
    launches = sum(e.count for e in averages if e.key.startswith("cudaLaunch" if on_gpu else "aten::"))
    return Summary(
        first_step=first, steps=steps, rank=rank,
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        ms_per_step=1e3 * seconds / steps, ms_of_step_before=before_ms,
        spans=spans, operators=_operators(averages, steps, seconds, on_gpu),
        launches_per_step=launches / steps,
        waiting_share=sum(one.share for one in spans if one.name == "wait"),
        tflop_per_s=work.flops / seconds / 1e12,
        counted_tflop_per_s=sum(e.flops for e in averages) / seconds / 1e12,
        gb_per_s=work.moved_bytes / seconds / 1e9,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None, memory=memory,
    )  # fmt: skip


def _share(
    name: str, calls: int, ms: float, steps: int, seconds: float, gpu_ms: float | None = None
) -> Share:
    on_gpu = None if gpu_ms is None else gpu_ms / steps
    return Share(name, calls / steps, ms / steps, ms / 1e3 / seconds, on_gpu)


def _spans(averages: list[Any], steps: int, seconds: float, gpu_ms: dict[str, float]) -> list[Share]:
    """By the host's clock; a name may stand among the GPU's events once more."""
    of = {e.key.removeprefix(PREFIX): e for e in averages if e.device_type == DeviceType.CPU}
    return [
        _share(name, of[name].count, of[name].cpu_time_total / 1e3, steps, seconds, gpu_ms.get(name))
        for name in SPANS
        if name in of
    ]


def _operators(averages: list[Any], steps: int, seconds: float, on_gpu: bool) -> list[Share]:
    """Those that take most by themselves."""
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = [e for e in averages if not e.key.startswith((PREFIX, "ProfilerStep"))]
    found.sort(key=lambda e: (-getattr(e, own), e.key))
    return [_share(e.key, e.count, getattr(e, own) / 1e3, steps, seconds) for e in found[:OPERATORS]]


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
