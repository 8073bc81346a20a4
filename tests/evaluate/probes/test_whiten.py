"""Whitening: what comes out is white, what is noise stays small, one value for all is no error."""

import numpy as np
import pytest

from aqqua.evaluate.probes.knn import Knn
from aqqua.evaluate.probes.whiten import FLOOR, fit_whitening


def test_rows_become_white():
    draw = np.random.default_rng(0)
    turned = np.linalg.qr(draw.normal(size=(5, 5)))[0]
    rows = 7 + draw.normal(size=(4000, 5)) * [10, 3, 2, 1, 1] @ turned
    white = fit_whitening(rows)(rows)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    # The floor shrinks the narrowest direction (1 of 10) by 1 - 1 / (1 + .1²).
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(5), atol=0.012)


def test_narrow_directions_are_not_blown_up():
    """By hand: deviations 1 and 0.001, floor 0.01: the second becomes 0.001 / sqrt(0.001² + 0.01²)."""
    rows = np.array([[1.0, 0.001], [1, -0.001], [-1, 0.001], [-1, -0.001]])
    white = fit_whitening(rows)(rows)
    assert np.abs(white[:, 0]) == pytest.approx(1 / np.sqrt(1 + FLOOR**2))
    assert np.abs(white[:, 1]) == pytest.approx(0.001 / np.hypot(0.001, FLOOR))


def test_loud_directions_no_longer_decide():
    """Class is in the last column, with some noise; three before it are loud and say nothing."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 600)
    quiet = labels * 4.0 - 2 + draw.normal(size=600)
    rows = np.column_stack([draw.normal(size=(600, 3)) * 50, quiet])
    known, none = labels[:400], np.full(400, -1)

    def accuracy(whitened: bool) -> float:
        found = Knn(5, whitened=whitened).fit(rows[:400], known, 2, none).probabilities(rows[400:])
        return float((found.argmax(axis=1) == labels[400:]).mean())

    assert accuracy(True) > accuracy(False) + 0.1


@pytest.mark.parametrize("rows", [np.ones((6, 3)), np.zeros((1, 3))])
def test_rows_all_alike_become_zero(rows):
    assert not fit_whitening(rows)(rows).any()


def test_more_columns_than_rows():
    rows = np.random.default_rng(0).normal(size=(4, 9))
    white = fit_whitening(rows)(rows)
    assert white.shape == (4, 4)
    assert np.isfinite(white).all()
