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
WAIT_CYCLES = 2_000_000  # about a millisecond: longer than any of our calls takes to launch


@dataclass(frozen=True)
class Timing:
    """Of one backend of one case."""

    median_ms: float
    low_ms: float  # first decile
    high_ms: float  # last decile
    host_ms: float  # median of what the host took to launch it
    rounds: int
    peak_bytes: int  # allocated at most beyond what was there before

    def as_dict(self) -> dict[str, float]:
        """Rounded to what the clock of CUDA events resolves, half a microsecond."""
        return {name: round(value, 4) for name, value in vars(self).items()}


def time_in_turn(
    calls: Mapping[str, Call], rounds: int = 50, budget_s: float = 10.0, hide_host: bool = True
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Timings of all calls that run, and why the others do not.

    They take turns (A, B, C, A, B, C, ...), so that clocks and temperature are the same for all. The time
    is that of the device between two events; rounds end early where the budget does, never below
    FEWEST_ROUNDS.

    Args:
        hide_host: let the device wait before each call until the host has launched it, so that a short
            kernel's time is its own.
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
    hosts: dict[str, list[float]] = {name: [] for name in peaks}
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() > end:
            break
        events = {name: _timed(calls[name], flush, hide_host) for name in peaks}
        torch.cuda.synchronize()
        for name, (start, stop, host_s) in events.items():
            samples[name].append(start.elapsed_time(stop))
            hosts[name].append(1000 * host_s)
    return {name: _summary(samples[name], hosts[name], peaks[name]) for name in peaks}, failed


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


def _timed(
    call: Call, flush: torch.Tensor, hide_host: bool
) -> tuple[torch.cuda.Event, torch.cuda.Event, float]:
    flush.zero_()
    if hide_host:
        torch.cuda._sleep(WAIT_CYCLES)
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    began = time.perf_counter()
    call()
    host_s = time.perf_counter() - began
    stop.record()
    return start, stop, host_s


def _summary(values: list[float], hosts: list[float], peak_bytes: int) -> Timing:
    deciles = quantiles(values, n=10)
    return Timing(median(values), deciles[0], deciles[-1], median(hosts), len(values), peak_bytes)
