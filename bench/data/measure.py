"""What the benchmarks of one core share: turns at the processor's clock, the machine, the results."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Where rows go; the variable AQQUA_BENCH_RESULTS names another folder, for what is not to be kept.
RESULTS = Path(os.environ.get("AQQUA_BENCH_RESULTS", Path(__file__).parents[1] / "results")) / "cpu"
Clock = Callable[[], float]


def best_of_rounds(chains: Mapping[str, Callable[[], object]], budget_s: float) -> dict[str, float]:
    """Least processor time of each chain, s; the chains take turns until the time is up.

    Only this thread's time counts, so ratios of one run hold on a busy machine too.
    """
    best = best_by_clocks(chains, budget_s, [time.thread_time])
    return {name: seconds for name, (seconds,) in best.items()}


def best_by_clocks(
    chains: Mapping[str, Callable[[], object]], budget_s: float, clocks: Sequence[Clock]
) -> dict[str, tuple[float, ...]]:
    """Least time of each chain by each clock, s; the chains take turns, twice at least, until time is up."""
    best = {name: (float("inf"),) * len(clocks) for name in chains}
    end = time.perf_counter() + budget_s
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        for name, chain in chains.items():
            starts = [clock() for clock in clocks]
            chain()
            spent = [clock() - start for clock, start in zip(clocks, starts, strict=True)]
            best[name] = tuple(map(min, best[name], spent))
        rounds += 1
    return best


def print_rates(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> None:
    """A line for each chain, its figures under the names of the columns."""
    print(f"{'chain':20}" + "".join(f"{column:>18}" for column in columns))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{value:18}" for value in row.values()))


def machine(*packages: str) -> dict[str, str]:
    """When, where, with what and by which command a row was measured.

    Args:
        packages: installed distributions whose versions matter to the row, beside Python and NumPy.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "cpu": f"{names[0]}, {len(names)} cores" if names else platform.processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{package: version(package) for package in packages},
        "command": " ".join(Path(word).name if "/" in word else word for word in sys.argv),
    }


def commit() -> str:
    """Of the source measured, "-dirty" if any file but the results differs from it, "none" outside git.

    The variable AQQUA_COMMIT, if set, is the answer.
    """
    here = Path(__file__).parents[2]
    if named := os.environ.get("AQQUA_COMMIT"):  # where the source travels without its repository
        return named
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=here)
    except OSError:
        return "none"
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", ".", ":!bench/results"],
        capture_output=True,
        text=True,
        cwd=here,
    )
    if head.returncode != 0:
        return "none"
    return head.stdout.strip() + ("-dirty" if changed.stdout else "")


def append_result(name: str, row: Mapping[str, object]) -> None:
    """Adds a JSON line to cpu/<name>.jsonl of the results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
