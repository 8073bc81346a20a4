"""How sure a score is: the bootstrap over groups of images, and paired differences of two contenders.

Images of one haul, frame or cruise are alike, so a bootstrap over images calls itself too sure: groups
are drawn with replacement, and all images of a group come with it. A score is a function of how often
each group was drawn (drawn.py makes such); the same seed draws the same for every contender.
G groups, B draws, M images.

Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile interval);
Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (resampling whole groups).

Test: tests/evaluate/metrics/test_interval.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from aqqua.evaluate.metrics.inputs import same_length

DRAWS = 1000
LEVEL = 0.95
MIN_GROUPS = 5  # of fewer, a percentile interval says next to nothing: 5 groups have 126 different draws

# How often each group is drawn -> score, NaN where it is undefined.
Statistic = Callable[[Int[np.ndarray, " G"]], float]


@dataclass(frozen=True)
class Interval:
    """A score and where other groups of images would put it; without bounds, `note` says why."""

    value: float
    low: float | None
    high: float | None
    groups: int
    note: str = ""


def interval(statistic: Statistic, n_groups: int, seed: int, draws: int = DRAWS) -> Interval:
    """The score over all groups, and its percentile interval at LEVEL.

    The interval says what other groups would do, not what another training run would. Draws in which
    the score is undefined are left out and noted.

    Raises:
        ValueError: no group, or no draw.
    """
    if n_groups < 1 or draws < 1:
        raise ValueError(
            f"a bootstrap must have groups and draws, got {n_groups} groups and {draws} draws; give both"
        )
    value = statistic(np.ones(n_groups, np.int64))
    if n_groups < MIN_GROUPS:
        return Interval(value, None, None, n_groups, f"too few groups for an interval: {n_groups}")
    generator = np.random.default_rng(seed)
    drawn_B = np.array([statistic(_draw(generator, n_groups)) for _ in range(draws)])
    defined = drawn_B[~np.isnan(drawn_B)]
    if not len(defined):
        return Interval(value, None, None, n_groups, "undefined in every draw")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    lost = draws - len(defined)
    note = f"undefined in {lost} of {draws} draws" if lost else ""
    return Interval(value, float(low), float(high), n_groups, note)


def margin(first: Statistic, second: Statistic, n_groups: int, seed: int, draws: int = DRAWS) -> Interval:
    """The first score minus the second, both over the same draws of the same groups."""
    return interval(lambda drawn_G: first(drawn_G) - second(drawn_G), n_groups, seed, draws)


def number_groups(*name_M: np.ndarray) -> tuple[Int[np.ndarray, " M"], int]:
    """Groups numbered from 0 by their names, such as instrument and cast; and how many there are."""
    rows = same_length(**{f"names {i}": np.asarray(names) for i, names in enumerate(name_M)})
    group_M = np.zeros(rows, np.int64)
    for names in name_M:
        _, number_M = np.unique(np.asarray(names), return_inverse=True)
        _, group_M = np.unique(group_M * (number_M.max(initial=0) + 1) + number_M, return_inverse=True)
    return group_M, int(group_M.max(initial=-1)) + 1


def _draw(generator: np.random.Generator, n_groups: int) -> Int[np.ndarray, " G"]:
    return np.bincount(generator.integers(0, n_groups, n_groups), minlength=n_groups)
