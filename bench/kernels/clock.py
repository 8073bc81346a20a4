"""Time on a GPU: CUDA events, the L2 cache flushed in between, the backends of a case in turn."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

Call = Callable[[], object]
L2_FLUSH_BYTES = 256 * 2**20  # several times the 60 MB of an H200
WARM_UP_CALLS = 3  # compilation and the allocator's first requests happen here
FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """Of one backend of one case."""

    median_ms: float
    low_ms: float  # first decile
    high_ms: float  # last decile
    rounds: int
    peak_bytes: int  # allocated at most beyond what was there before

    def as_dict(self) -> dict[str, float]:
        """Rounded to what the clock of CUDA events resolves, half a microsecond."""
        return {name: round(value, 4) for name, value in vars(self).items()}


def time_in_turn(
    calls: Mapping[str, Call], rounds: int = 50, budget_s: float = 10.0
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Timings of all calls that run, and why the others do not.

    They take turns (A, B, C, A, B, C, ...), so that clocks and temperature are the same for all. The time
    is that of the device between two events; rounds end early where the budget does, never below
    FEWEST_ROUNDS.
    """
    end = time.perf_counter() + budget_s
    peaks, failed = {}, {}
    for name, call in calls.items():
        try:
            peaks[name] = _warm_up(call)
        except Exception as error:  # a peer that refuses is a line of the table, not the end of it
            failed[name] = describe(error)
    flush = torch.empty(L2_FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    samples: dict[str, list[float]] = {name: [] for name in peaks}
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() > end:
            break
        events = {name: _timed(calls[name], flush) for name in peaks}
        torch.cuda.synchronize()
        for name, (start, stop) in events.items():
            samples[name].append(start.elapsed_time(stop))
    return {name: _summary(values, peaks[name]) for name, values in samples.items()}, failed


def describe(error: Exception) -> str:
    """An exception in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _warm_up(call: Call) -> int:
    """Bytes a call allocates at most."""
    for _ in range(WARM_UP_CALLS):
        call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _timed(call: Call, flush: torch.Tensor) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    flush.zero_()
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    stop.record()
    return start, stop


def _summary(values: list[float], peak_bytes: int) -> Timing:
    deciles = quantiles(values, n=10)
    return Timing(median(values), deciles[0], deciles[-1], len(values), peak_bytes)
