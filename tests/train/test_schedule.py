"""Schedules: the golden table, equality with arrays over a whole run, fractional progress."""

import numpy as np
import pytest
from pydantic import ValidationError

from aqqua.train.schedule import Schedule, TeacherConfig, rising

STEPS = [0, 5, 9, 10, 11, 55, 99]
GOLDEN = {
    "v2": [0, 5.555556e-4, 1e-3, 1e-3, 9.996957e-4, 5.005000e-4, 1.304282e-6],
    "v3": [0, 5.555556e-4, 1e-3, 1e-3, 9.996888e-4, 4.916846e-4, 1e-6],
}


@pytest.mark.parametrize("end", ["v2", "v3"])
def test_golden_table(end):
    schedule = Schedule(1e-3, 1e-6, 100, warmup=10, end=end)
    assert [schedule.at(step) for step in STEPS] == pytest.approx(GOLDEN[end], rel=1e-6)
    assert schedule.at(100) == schedule.at(10**12) == 1e-6


@pytest.mark.parametrize(("end", "shift"), [("v2", 0), ("v3", 1)])
@pytest.mark.parametrize(
    ("steps", "warmup", "start"), [(100, 10, 0.0), (37, 0, 0.0), (50, 1, 0.2), (20, 19, 0.1)]
)
def test_equals_the_published_arrays(end, shift, steps, warmup, start):
    n = steps - warmup
    angle = np.pi * np.arange(n) / max(n - shift, 1)
    # A v3 cosine of one step has no slope; ours goes to the final value at once.
    cosine = 0.3 + 0.5 * (1.0 - 0.3) * (1 + np.cos(angle)) if n > shift else np.full(n, 0.3)
    want = np.concatenate([np.linspace(start, 1.0, warmup), cosine])
    schedule = Schedule(1.0, 0.3, steps, warmup=warmup, start=start, end=end)
    assert [schedule.at(step) for step in range(steps)] == pytest.approx(want.tolist(), rel=1e-12)


def test_frozen_steps_are_zero_and_shift_nothing():
    free = Schedule(1e-3, 1e-6, 100, warmup=10)
    frozen = Schedule(1e-3, 1e-6, 100, warmup=10, frozen=3)
    assert [frozen.at(step) for step in range(3)] == [0, 0, 0]
    assert all(frozen.at(step) == free.at(step) for step in range(3, 120))


@pytest.mark.parametrize("end", ["v2", "v3"])
def test_progress_between_steps_lies_between_their_values(end):
    schedule = Schedule(1e-3, 1e-6, 100, warmup=10, end=end)
    for step in range(110):
        low, high = sorted([schedule.at(step), schedule.at(step + 1)])
        assert low <= schedule.at(step + 0.37) <= high


def test_samples_seen_give_the_values_of_steps():
    """Two runs over the same samples, in steps of equal and of unequal size, meet at the same rate."""
    schedule = Schedule(1e-3, 1e-6, 100, warmup=10)
    for seen, step in ((0, 0), (9 * 2048, 9), (55 * 2048, 55)):
        unequal = [seen // 3, seen - seen // 3]
        assert schedule.at(sum(unequal) / 2048) == schedule.at(step)


def test_teacher():
    teacher = TeacherConfig()
    temperature, momentum = teacher.temperature(100), teacher.momentum(100)
    assert temperature.at(0) == 0.04
    assert temperature.at(29) == pytest.approx(0.07)
    assert temperature.at(14.5) == pytest.approx(0.055)
    assert temperature.at(30) == temperature.at(99) == 0.07
    assert momentum.at(0) == pytest.approx(0.992)
    assert momentum.at(50) == pytest.approx(0.996)
    assert momentum.at(100) == 1.0
    constant = TeacherConfig(momentum_start=0.994, momentum_end=0.994).momentum(100)
    assert {constant.at(step) for step in range(120)} == {0.994}


def test_errors():
    with pytest.raises(ValueError, match="got warmup 11 and steps 10"):
        Schedule(1, 0, 10, warmup=11)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Schedule(1, 0, 10).at(-1)
    with pytest.raises(ValidationError, match="momentum_strat"):
        TeacherConfig.model_validate({"momentum_strat": 0.9})


def test_rising_starts_at_its_start_and_holds_its_value():
    schedule = rising(0.5, 0.4, 100)
    assert [schedule.at(step) for step in (0, 39, 40, 99, 1000)] == [0.0, 0.5, 0.5, 0.5, 0.5]
    assert schedule.at(13) == pytest.approx(0.5 / 3)
    assert rising(0.5, 0.0, 100).at(0) == 0.5
