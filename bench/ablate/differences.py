"""Figures of a grid's runs, and what an arm gains over another, paired by seed.

Intervals are Student's t over seeds, 95 %: what other seeds would do, on the same test images. One seed has
none.
Test: tests/test_ablate.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
ALL = "mean of all"  # of the suites, where there are several


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

    value: float
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        mean, count = float(np.mean(values)), len(values)
        if count < 2:
            return cls(mean, None, None, count)
        half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
        return cls(mean, mean - float(half), mean + float(half), count)


Figures = dict[tuple[str, str], dict[tuple[str, int], float]]  # (suite, told) -> (arm, seed) -> figure


def figures_of(rows: Sequence[Mapping[str, Any]], probe: str, figure: str, of_all: bool = True) -> Figures:
    """Of the JSON of a grid's runs.

    Args:
        of_all: every suite must have it; else one is enough.

    Raises:
        ValueError: a run has no such probe or figure.
    """
    found: Figures = {}
    for row in rows:
        for suite, by_told in row["scores"].items():
            for told, by_probe in by_told.items():
                value = by_probe.get(probe, {}).get(figure, {}).get("value")
                if value is not None:
                    found.setdefault((suite, told), {})[row["arm"], row["seed"]] = value
                elif of_all:
                    raise _missing(f"{row['arm']}: {suite}", probe, figure, [*by_probe])
    if rows and not found:
        suites = rows[0]["scores"]
        raise _missing(
            "one of the suites", probe, figure, sorted({p for s in suites.values() for p in s["true"]})
        )
    return _with_mean(found)


def _missing(where: str, probe: str, figure: str, there: Sequence[str]) -> ValueError:
    return ValueError(
        f"{where} must have {figure} of {probe!r}, got {list(there)}; correct the grid's probe and figure"
    )


def _with_mean(figures: Figures) -> Figures:
    """Also of all suites, for runs that all of them judged."""
    if len({suite for suite, _ in figures}) < 2:
        return figures
    means: Figures = {}
    for told in dict.fromkeys(told for _, told in figures):
        parts = [by_run for (_, one), by_run in figures.items() if one == told]
        both = set.intersection(*(set(part) for part in parts))
        runs = [run for run in parts[0] if run in both]
        means[ALL, told] = {run: float(np.mean([part[run] for part in parts])) for run in runs}
    return {**means, **figures}


def of_arm(by_run: Mapping[tuple[str, int], float], arm: str) -> Estimate | None:
    """Mean over its seeds; None where there is no run."""
    values = [value for (name, _), value in by_run.items() if name == arm]
    return Estimate.of(values) if values else None


def gain(
    by_run: Mapping[tuple[str, int], float], arm: str, against: Mapping[tuple[str, int], float], other: str
) -> Estimate | None:
    """What `arm` has more than `other`, over the seeds that both have; None where there is none."""
    both = [(value, against[other, seed]) for (name, seed), value in by_run.items()
            if name == arm and (other, seed) in against]  # fmt: skip
    return Estimate.of([mine - theirs for mine, theirs in both]) if both else None
