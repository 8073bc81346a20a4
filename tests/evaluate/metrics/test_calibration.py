"""Calibration: by hand, against scikit-learn and hiclass' definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from aqqua.evaluate.metrics.calibration import brier_M, calibration_gaps, reliability


def rows(draw: np.random.Generator, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    return draw.integers(0, classes, n), draw.dirichlet(np.ones(classes), n)


def test_by_hand():
    """Two called with 0.9 (one right), two with 0.6 (both right): |0.5 - 0.9| / 2 + |1 - 0.6| / 2."""
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    found = reliability(np.array([0, 1, 1, 1]), probability, bins=10)
    assert found.expected_calibration_error == pytest.approx(0.4)
    np.testing.assert_allclose(found.accuracy_B, [1, 0.5])
    np.testing.assert_allclose(found.confidence_B, [0.6, 0.9])
    assert found.images_B.tolist() == [2, 2]
    assert brier_M(np.array([0, 1, 1, 1]), probability).tolist() == pytest.approx([0.02, 1.62, 0.32, 0.32])


def test_always_sure_and_right_is_calibrated():
    found = reliability(np.array([0, 1, 2]), np.eye(3))
    assert found.expected_calibration_error == 0
    assert found.images_B.tolist() == [3]
    assert brier_M(np.array([0, 1, 2]), np.eye(3)).tolist() == [0, 0, 0]
    assert brier_M(np.array([1]), np.array([[1.0, 0.0]])).tolist() == [2]


def test_bins_of_equal_mass_share_out_the_images_and_keep_equals_together():
    draw = np.random.default_rng(0)
    truth, probability = rows(draw, 300, 5)
    even = reliability(truth, probability, bins=10, spacing="equal mass")
    assert even.images_B.tolist() == [30] * 10
    same = reliability(np.zeros(9, int), np.tile([0.7, 0.3], (9, 1)), bins=3, spacing="equal mass")
    assert same.images_B.tolist() == [9]
    assert same.expected_calibration_error == pytest.approx(0.3)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 50), st.integers(2, 6), st.integers(1, 20), st.integers(0, 2**32))
def test_as_defined_and_as_scikit_learn(n, classes, bins, seed):
    truth, probability = rows(np.random.default_rng(seed), n, classes)
    brier = brier_score_loss(truth, probability, labels=range(classes), scale_by_half=False)
    assert brier_M(truth, probability).mean() == pytest.approx(brier)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth
    want = 0.0
    for low, high in zip(np.linspace(0, 1, bins + 1)[:-1], np.linspace(0, 1, bins + 1)[1:], strict=True):
        held = (confidence > low) & (confidence <= high)
        if held.any():
            want += held.mean() * abs(right[held].mean() - confidence[held].mean())
    assert reliability(truth, probability, bins).expected_calibration_error == pytest.approx(want)
    for spacing in ("equal width", "equal mass"):
        gaps = calibration_gaps(truth, probability, bins, spacing)
        found = reliability(truth, probability, bins, spacing)
        assert found.expected_calibration_error == pytest.approx(np.abs(gaps.sum(axis=0)).sum() / n)
        assert found.images_B.sum() == n


def test_as_hiclass():
    """hiclass' ECE of one level; its bins are closed below, which no drawn confidence notices."""
    from hiclass.metrics import _expected_calibration_error

    class Flat:
        classes_ = (("0", "1", "2", "3"),)
        separator_ = "::"

        def _disambiguate(self, y: np.ndarray) -> np.ndarray:
            return y

    truth, probability = rows(np.random.default_rng(0), 200, 4)
    labels = [[str(c)] for c in truth]
    called = [[str(c)] for c in probability.argmax(axis=1)]
    want = _expected_calibration_error(
        Flat(), np.array(labels), probability.astype(np.float32), np.array(called), level=0, n_bins=15
    )
    assert reliability(truth, probability).expected_calibration_error == pytest.approx(want, abs=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability(np.array([0]), np.array([[1.0, 0.0]]), bins=0)
    with pytest.raises(ValueError, match="truth must be from 0 to 1, got 2 in row 0"):
        brier_M(np.array([2]), np.array([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="got 2 of truth, 1 of probabilities"):
        reliability(np.array([0, 1]), np.array([[1.0, 0.0]]))
