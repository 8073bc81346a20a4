"""Retrieval across instruments against scikit-learn and by hand; the instrument probe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from aqqua.evaluate.metrics import invariance
from aqqua.evaluate.metrics.invariance import cross_instrument_retrieval, instrument_probe
from aqqua.evaluate.metrics.novelty import unit_rows


def drawn(seed: int, n: int = 60, width: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    classes, instruments = draw.integers(0, 5, n), draw.integers(0, 3, n)
    classes[:2], instruments[:2] = 0, [0, 1]  # one class at least that two instruments have
    return draw.normal(size=(n, width)) + np.eye(5, width)[classes], classes, instruments


def test_by_hand():
    """Angles on a circle. Instrument 0 at 0°; instrument 1 at 10° (other class), 20° and 40° (same class)."""
    angle = np.deg2rad([0, 10, 20, 40, 90])
    features = np.column_stack([np.cos(angle), np.sin(angle)])
    found = cross_instrument_retrieval(features, np.array([7, 3, 7, 7, 4]), np.array([0, 1, 1, 1, 0]), k=2)
    assert found.query_Q.tolist() == [0, 2, 3]  # classes 3 and 4 are with one instrument only
    assert found.left_out == 2
    assert found.precision_Q.tolist() == [0.5, 0.5, 0.5]
    assert found.first_Q.tolist() == [0, 1, 1]  # of 0° and 90°: 20° and 40° are nearer to 0°
    assert found.average_precision_Q[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    np.testing.assert_allclose(found.chance_Q, [2 / 3, 1 / 2, 1 / 2])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_as_defined_and_as_scikit_learn(seed, k):
    features, classes, instruments = drawn(seed, 40)
    found = cross_instrument_retrieval(features, classes, instruments, k)
    unit = unit_rows("features", features)
    for i, q in enumerate(found.query_Q):
        others = np.flatnonzero(instruments != instruments[q])
        similarity, same = unit[others] @ unit[q], classes[others] == classes[q]
        order = np.argsort(-similarity)
        assert found.precision_Q[i] == pytest.approx(same[order[:k]].mean())
        assert found.first_Q[i] == same[order[0]]
        assert found.chance_Q[i] == pytest.approx(same.mean())
        want = average_precision_score(same, similarity)
        assert found.average_precision_Q[i] == pytest.approx(want, abs=1e-6)
    assert len(found.query_Q) + found.left_out == 40


def test_equals_share_their_places():
    """All images alike: whatever the order of rows, success is chance."""
    classes, instruments = np.array([0, 0, 1, 0, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    found = cross_instrument_retrieval(np.ones((6, 3)), classes, instruments, k=2)
    for scores in (found.precision_Q, found.first_Q, found.average_precision_Q):
        np.testing.assert_allclose(scores, found.chance_Q)


def test_features_of_the_animal_beat_features_of_the_camera():
    draw = np.random.default_rng(0)
    classes, instruments = draw.integers(0, 5, 200), draw.integers(0, 3, 200)
    noise = draw.normal(0, 0.3, (200, 8))
    animal = cross_instrument_retrieval(np.eye(8)[classes] + noise, classes, instruments)
    camera = cross_instrument_retrieval(np.eye(8)[instruments] + noise, classes, instruments)
    assert animal.average_precision_Q.mean() > 0.8
    assert camera.average_precision_Q.mean() < camera.chance_Q.mean() + 0.1


def test_chunks_change_nothing(monkeypatch):
    whole = cross_instrument_retrieval(*drawn(0))
    monkeypatch.setattr(invariance, "CHUNK", 7)
    parts = cross_instrument_retrieval(*drawn(0))
    np.testing.assert_array_equal(parts.query_Q, whole.query_Q)
    np.testing.assert_allclose(parts.average_precision_Q, whole.average_precision_Q, atol=1e-6)


def test_probe():
    found = instrument_probe(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert found.chance == 0.5  # of the two that occur
    with pytest.raises(ValueError, match="must have images of two instruments, got one"):
        instrument_probe(np.array([1, 1]), np.array([0, 1]), 2)


def test_bad_input():
    features = np.eye(3)
    with pytest.raises(ValueError, match="must have a class that two instruments have, got none"):
        cross_instrument_retrieval(features, np.array([0, 1, 1]), np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        cross_instrument_retrieval(features, np.zeros(3, int), np.arange(3), k=0)
    with pytest.raises(ValueError, match="features must not all be 0, got such in row 2"):
        cross_instrument_retrieval(np.diag([1.0, 1, 0]), np.zeros(3, int), np.arange(3))
    with pytest.raises(ValueError, match="got 3 of features, 2 of classes"):
        cross_instrument_retrieval(features, np.zeros(2, int), np.arange(3))
    with pytest.raises(ValueError, match="classes must be whole numbers, got float64"):
        cross_instrument_retrieval(features, np.full(3, np.nan), np.arange(3))
