"""Shares and their errors: by hand, against SciPy and quapy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import braycurtis

from aqqua.evaluate.metrics.quantification import (
    bray_curtis,
    class_shares,
    mean_shares,
    relative_bias,
    share_error,
)


def test_by_hand():
    sample = np.array([0, 1, 0, 1, 1, 0, 0])
    found = class_shares(np.array([0, 2, 0, 2, 1, 1, 0]), sample, 3)
    np.testing.assert_allclose(found, [[3 / 4, 1 / 4, 0], [0, 1 / 3, 2 / 3]])
    probability = np.array([[1, 0], [0.5, 0.5], [0.5, 0.5], [0, 1], [0.1, 0.9], [0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(mean_shares(probability, sample), [[0.5, 0.5], [0.2, 0.8]])


def test_errors_by_hand():
    true, found = np.array([[0.5, 0.5, 0], [1, 0, 0]]), np.array([[0.25, 0.5, 0.25], [0, 0, 1]])
    np.testing.assert_allclose(bray_curtis(true, found), [0.25, 1])
    np.testing.assert_allclose(share_error(true, found), [0.5 / 3, 2 / 3])
    np.testing.assert_allclose(relative_bias(true, found), [(0.25 - 1.5) / 1.5, 0, np.nan])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32))
def test_as_scipy_and_quapy(samples, classes, seed):
    from quapy.error import ae

    draw = np.random.default_rng(seed)
    true, found = (draw.dirichlet(np.ones(classes), samples) for _ in range(2))
    want = [braycurtis(*pair) for pair in zip(true, found, strict=True)]
    np.testing.assert_allclose(bray_curtis(true, found), want)
    counts = draw.integers(0, 9, (2, samples, classes)) + np.eye(classes, dtype=int)[0]
    want = [braycurtis(*pair) for pair in zip(*counts, strict=True)]
    np.testing.assert_allclose(bray_curtis(counts[0], counts[1]), want)
    np.testing.assert_allclose(share_error(true, found), ae(true, found))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_certain_probabilities_give_the_shares_of_classes(n, samples, classes, seed):
    draw = np.random.default_rng(seed)
    sample = draw.permutation(np.concatenate([np.arange(samples), draw.integers(0, samples, n)]))
    truth = draw.integers(0, classes, len(sample))
    shares = class_shares(truth, sample, classes)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(mean_shares(np.eye(classes)[truth], sample), shares)
    np.testing.assert_allclose(bray_curtis(shares, shares), 0)


def test_bad_input():
    good = np.array([[0.5, 0.5]])
    with pytest.raises(ValueError, match="samples must be numbered from 0 without gaps, got none of 0"):
        class_shares(np.array([0]), np.array([1]), 2)
    with pytest.raises(ValueError, match="got 2 of classes, 1 of samples"):
        class_shares(np.array([0, 1]), np.array([0]), 2)
    with pytest.raises(ValueError, match=r"must have one shape, got \(1, 2\) and \(1, 3\)"):
        bray_curtis(good, np.ones((1, 3)) / 3)
    with pytest.raises(ValueError, match=r"found shares must not be negative, got -0\.5 in row 0"):
        share_error(good, np.array([[1.5, -0.5]]))
    with pytest.raises(ValueError, match="must hold something, got 0 of every class in row 1"):
        bray_curtis(np.array([[1, 0], [0, 0]]), np.array([[1, 0], [0, 0]]))
    with pytest.raises(ValueError, match="true shares must be finite, got nan in row 0"):
        relative_bias(np.array([[np.nan]]), np.array([[1.0]]))
