"""The bootstrap: its macro-F1 is that of the scores, its interval covers and narrows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.evaluate.interval import macro_f1, macro_f1_margin
from aqqua.evaluate.metrics import score


@settings(deadline=None)  # the first call imports scikit-learn
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 2**32))
def test_macro_f1_is_that_of_the_scores(n, classes, seed):
    draw = np.random.default_rng(seed)
    truth, found = draw.integers(0, classes, n), draw.integers(0, classes, n)
    names = [str(c) for c in range(classes)]
    assert macro_f1(truth, found, classes) == pytest.approx(score(truth, found, names).macro_f1)


def noisy(truth: np.ndarray, wrong: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.where(draw.random(len(truth)) < wrong, draw.integers(0, 4, len(truth)), truth)


def test_a_better_prediction_is_surely_ahead_and_itself_is_not():
    truth = np.random.default_rng(0).integers(0, 4, 800)
    good, bad = noisy(truth, 0.2, 1), noisy(truth, 0.6, 2)
    low, high = macro_f1_margin(truth, good, bad, 4, seed=0)
    assert 0 < low < macro_f1(truth, good, 4) - macro_f1(truth, bad, 4) < high
    assert macro_f1_margin(truth, bad, good, 4, seed=0) == pytest.approx((-high, -low))
    assert macro_f1_margin(truth, good, good, 4, seed=0) == (0.0, 0.0)


def test_more_images_narrow_the_interval():
    widths = []
    for n in (200, 3200):
        truth = np.random.default_rng(0).integers(0, 4, n)
        low, high = macro_f1_margin(truth, noisy(truth, 0.3, 1), noisy(truth, 0.3, 2), 4, seed=0)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # as 1 / sqrt(16) would have it: a quarter


def test_the_interval_covers():
    """Of 100 repetitions with equally good predictors, about 95 intervals hold zero."""
    held = 0
    for trial in range(100):
        truth = np.random.default_rng(trial).integers(0, 4, 150)
        first, second = noisy(truth, 0.5, 1000 + trial), noisy(truth, 0.5, 5000 + trial)
        low, high = macro_f1_margin(truth, first, second, 4, seed=trial)
        held += low <= 0 <= high
    assert 88 <= held <= 100
