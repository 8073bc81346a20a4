"""The bootstrap: it covers, narrows, pairs, draws whole groups, and equals the plain computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.evaluate.metrics.classes import count_classes
from aqqua.evaluate.metrics.drawn import (
    group_of_samples,
    of_counts,
    of_mean,
    of_passing,
    of_ratio,
    of_rows,
    of_sums,
)
from aqqua.evaluate.metrics.interval import MIN_GROUPS, Statistic, interval, margin, number_groups
from aqqua.evaluate.metrics.ranking import Passing, auroc, average_precision, fpr_at_tpr


def noisy(truth: np.ndarray, wrong: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.where(draw.random(len(truth)) < wrong, draw.integers(0, 4, len(truth)), truth)


def macro_f1(truth: np.ndarray, found: np.ndarray, group: np.ndarray | None = None) -> Statistic:
    group = np.arange(len(truth)) if group is None else group
    return of_counts(lambda counts: counts.macro_f1, truth, found, group, 4)


def filled(draw: np.random.Generator, n: int, groups: int) -> np.ndarray:
    """Groups of which each has an image."""
    return draw.permutation(np.concatenate([np.arange(groups), draw.integers(0, groups, n - groups)]))


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 60), st.integers(1, 4), st.integers(0, 2**32))
def test_every_statistic_equals_the_plain_score_of_the_drawn_rows(n, groups, seed):
    draw = np.random.default_rng(seed)
    truth, found, group = draw.integers(0, 4, n), draw.integers(0, 4, n), filled(draw, n, groups)
    score = draw.integers(0, 9, n) / 8
    weights = np.bincount(draw.integers(0, groups, groups), minlength=groups)
    rows = np.concatenate([np.repeat(np.flatnonzero(group == g), w) for g, w in enumerate(weights)])
    plain = count_classes(truth[rows], found[rows], 4)
    for name in ("macro_f1", "balanced_accuracy", "accuracy"):
        drawn = of_counts(lambda counts, name=name: getattr(counts, name), truth, found, group, 4)
        assert drawn(weights) == pytest.approx(getattr(plain, name))
    assert of_mean(score, group)(weights) == pytest.approx(score[rows].mean())
    both = of_sums(lambda sums: float(sums[0] - sums[1]), np.column_stack([score, truth]), group)
    assert both(weights) == pytest.approx((score - truth)[rows].sum())
    seen = of_rows(lambda rows: float(score[rows].sum()), group)
    assert seen(weights) == pytest.approx(score[rows].sum())
    positive = truth < 2
    if positive.any() and not positive.all():
        for score_of, plain_of in (
            (lambda found: found.auroc, auroc),
            (lambda found: found.average_precision, average_precision),
            (Passing.false_share, fpr_at_tpr),
        ):
            ranked = of_passing(score_of, positive, score, group)(weights)
            one_side = positive[rows].all() or not positive[rows].any()
            want = np.nan if one_side else plain_of(positive[rows], score[rows])
            assert ranked == pytest.approx(want, nan_ok=True)


def test_plankton_only_statistic():
    truth, found, group = np.array([0, 1, 2, 0]), np.array([0, 2, 2, 1]), np.array([0, 0, 1, 2])
    counted = np.array([True, True, False])
    drawn = of_counts(lambda counts: counts.accuracy, truth, found, group, 3, counted)
    assert drawn(np.array([1, 1, 1])) == count_classes(truth, found, 3, counted).accuracy
    assert np.isnan(drawn(np.array([0, 3, 0])))  # nothing but detritus was drawn


def test_a_better_prediction_is_surely_ahead_and_itself_is_not():
    truth = np.random.default_rng(0).integers(0, 4, 800)
    good, bad = (macro_f1(truth, noisy(truth, wrong, 1)) for wrong in (0.2, 0.6))
    ahead = margin(good, bad, 800, seed=0, draws=300)
    assert 0 < ahead.low < ahead.value < ahead.high
    behind = margin(bad, good, 800, seed=0, draws=300)
    assert (behind.low, behind.high) == pytest.approx((-ahead.high, -ahead.low))
    same = margin(good, good, 800, seed=0, draws=300)
    assert (same.low, same.high) == (0.0, 0.0)


def test_pairing_is_narrower_than_two_intervals():
    """Two contenders that err on nearly the same images differ by less than either is sure of itself."""
    truth = np.random.default_rng(0).integers(0, 4, 400)
    first = noisy(truth, 0.5, 1)
    second = first.copy()
    second[:10] = truth[:10]
    paired = margin(macro_f1(truth, second), macro_f1(truth, first), 400, seed=0, draws=300)
    alone = interval(macro_f1(truth, first), 400, seed=0, draws=300)
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_more_groups_narrow_the_interval():
    widths = []
    for n in (200, 3200):
        truth = np.random.default_rng(0).integers(0, 4, n)
        found = interval(macro_f1(truth, noisy(truth, 0.3, 1)), n, seed=0, draws=300)
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2  # as 1 / sqrt(16) would have it: a quarter


def test_images_that_come_together_do_not_narrow_it():
    """Every image ten times in its group: a bootstrap over images would be three times too sure."""
    truth = np.random.default_rng(0).integers(0, 4, 100)
    found, group = noisy(truth, 0.4, 1), np.arange(100)
    once = interval(macro_f1(truth, found, group), 100, seed=0, draws=300)
    often = macro_f1(np.repeat(truth, 10), np.repeat(found, 10), np.repeat(group, 10))
    assert interval(often, 100, seed=0, draws=300) == once
    loose = macro_f1(np.repeat(truth, 10), np.repeat(found, 10))
    alone = interval(loose, 1000, seed=0, draws=300)
    assert alone.high - alone.low < (once.high - once.low) / 2


def test_the_interval_covers():
    """Of 100 repetitions with equally good predictors, about 95 intervals hold zero."""
    held = 0
    for trial in range(100):
        truth = np.random.default_rng(trial).integers(0, 4, 150)
        first, second = (macro_f1(truth, noisy(truth, 0.5, base + trial)) for base in (1000, 5000))
        found = margin(first, second, 150, seed=trial, draws=200)
        held += found.low <= 0 <= found.high
    assert 88 <= held <= 100


def test_the_bounds_are_those_of_the_level():
    """Of a mean of 400 numbers: 1.96 standard errors to each side."""
    value = np.random.default_rng(0).normal(size=400)
    found, error = interval(of_mean(value, np.arange(400)), 400, seed=0, draws=3000), value.std() / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert found.high + found.low == pytest.approx(2 * value.mean(), abs=0.3 * error)


def test_same_seed_same_interval():
    statistic = of_mean(np.random.default_rng(0).random(50), np.arange(50))
    assert interval(statistic, 50, seed=3) == interval(statistic, 50, seed=3)
    assert interval(statistic, 50, seed=3) != interval(statistic, 50, seed=4)


def test_too_few_groups_have_no_interval_and_say_so():
    found = interval(of_mean(np.arange(8.0), np.arange(8) % 4), 4, seed=0)
    assert (found.value, found.low, found.high) == (3.5, None, None)
    assert found.note == "too few groups for an interval: 4"
    assert interval(of_mean(np.arange(5.0), np.arange(5)), MIN_GROUPS, seed=0).low is not None
    with pytest.raises(ValueError, match="must have groups and draws, got 0 groups"):
        interval(lambda _: 0.0, 0, seed=0)


def test_undefined_draws_are_left_out_and_told():
    """One group of six has what is asked for: about a third of the draws lack it."""
    asked = np.array([1.0, 0, 0, 0, 0, 0])
    found = interval(of_ratio(asked, asked, np.arange(6)), 6, seed=0)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    lost = int(found.note.split()[2])
    assert 250 < lost < 420
    never = interval(of_ratio(np.ones(6), np.zeros(6), np.arange(6)), 6, seed=0)
    assert np.isnan(never.value)
    assert (never.low, never.note) == (None, "undefined in every draw")


def test_groups_are_numbered_by_all_their_names():
    instrument = np.array(["IFCB", "UVP6", "IFCB", "UVP6", "UVP6"])
    cast = np.array(["1", "1", "2", "1", "10"])
    group, n = number_groups(instrument, cast)
    assert group.tolist() == [0, 2, 1, 2, 3]
    assert n == 4
    assert number_groups(cast)[1] == 3


def test_samples_are_drawn_with_their_group_or_alone():
    assert group_of_samples(np.array([0, 0, 1, 2]), np.array([1, 1, 0, 1])).tolist() == [1, 0, 1]
    assert group_of_samples(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2])).tolist() == [0, 1]


def test_bad_input():
    with pytest.raises(ValueError, match="groups must be numbered from 0 without gaps"):
        of_mean(np.ones(2), np.array([0, 2]))
    with pytest.raises(ValueError, match="got 2 of values, 3 of groups"):
        of_mean(np.ones(2), np.arange(3))
    with pytest.raises(ValueError, match="got 3 of truth, 3 of predictions, 2 of groups"):
        macro_f1(np.arange(3), np.arange(3), np.arange(2))
