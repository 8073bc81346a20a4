"""Novelty scores against their formulas and scikit-learn's neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from aqqua.evaluate.metrics import novelty
from aqqua.evaluate.metrics.novelty import energy, max_softmax, neighbour_distance, novelty_scores, unit_rows


def test_max_softmax():
    assert max_softmax(np.array([[0.7, 0.3], [0.5, 0.5]])).tolist() == pytest.approx([0.3, 0.5])
    with pytest.raises(ValueError, match="probabilities must not be negative"):
        max_softmax(np.array([[2.0, -1.0]]))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(1, 6), st.floats(0.1, 10), st.integers(0, 2**32))
def test_energy(rows, classes, temperature, seed):
    logits = np.random.default_rng(seed).normal(0, 300, (rows, classes))  # exp() of these would overflow
    want = -temperature * logsumexp(logits / temperature, axis=1)
    np.testing.assert_allclose(energy(logits, temperature), want)


def test_energy_tells_a_weak_answer_from_a_strong_one():
    """The same probabilities, and nothing fits the second image."""
    found = energy(np.array([[9.0, 7.0], [-1.0, -3.0]]))
    assert found[1] - found[0] == pytest.approx(10)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        energy(np.ones((1, 2)), 0)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(2, 6), st.integers(0, 2**32))
def test_distance_as_scikit_learn(known, rows, width, seed):
    draw = np.random.default_rng(seed)
    known_ND, feature_MD = draw.normal(size=(known, width)), draw.normal(size=(rows, width))
    k = int(draw.integers(1, known + 1))
    search = NearestNeighbors(n_neighbors=k).fit(unit_rows("known", known_ND).astype(np.float64))
    want = search.kneighbors(unit_rows("rows", feature_MD).astype(np.float64))[0][:, -1]
    np.testing.assert_allclose(neighbour_distance(known_ND, feature_MD, k), want, atol=2e-3)


def test_distance_does_not_depend_on_chunks_or_length(monkeypatch):
    draw = np.random.default_rng(0)
    known, rows = draw.normal(size=(40, 5)), draw.normal(size=(17, 5))
    whole = neighbour_distance(known, rows, 3)
    monkeypatch.setattr(novelty, "CHUNK", 4)
    np.testing.assert_allclose(neighbour_distance(3 * known, 7 * rows, 3), whole, atol=1e-5)
    np.testing.assert_allclose(neighbour_distance(known, -known, 40), 2, atol=1e-6)
    many = draw.normal(size=(3000, 5))
    every = np.linalg.norm(unit_rows("rows", rows)[:, None] - unit_rows("known", many), axis=2)
    np.testing.assert_allclose(neighbour_distance(many, rows, 700), np.sort(every)[:, 699], atol=1e-5)


def test_scores():
    unknown, score = np.array([True, False, True, False, False]), np.array([5.0, 4, 3, 2, 1])
    found = novelty_scores(unknown, score)
    assert found.auroc == pytest.approx(5 / 6)
    assert found.aupr == pytest.approx((1 + 2 / 3) / 2)
    assert found.fpr95 == pytest.approx(1 / 3)
    assert found.unknown_share == 0.4


def test_bad_input():
    one = np.ones((1, 2))
    with pytest.raises(ValueError, match="k must be from 1 to the 1 known images, got 2"):
        neighbour_distance(one, one, 2)
    with pytest.raises(ValueError, match="features must have one width, got 2 and 3"):
        neighbour_distance(one, np.ones((1, 3)), 1)
    with pytest.raises(ValueError, match="known features must not all be 0, got such in row 1"):
        neighbour_distance(np.array([[1.0, 0], [0, 0]]), one, 1)
    with pytest.raises(ValueError, match="features must be finite, got nan in row 0"):
        neighbour_distance(one, np.array([[np.nan, 1]]), 1)
    with pytest.raises(ValueError, match="both sides must have images, got 0 of 2"):
        novelty_scores(np.array([False, False]), np.array([0.0, 1.0]))
