"""Community distortion: by hand, against SciPy's Bray-Curtis, and the threshold that it chooses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import braycurtis

from aqqua.evaluate.metrics.community import Community, operating_point
from aqqua.evaluate.metrics.ranking import threshold_at_tpr

INF = float("inf")


def drawn(seed: int, n: int = 60, samples: int = 4, classes: int = 3) -> Community:
    draw = np.random.default_rng(seed)
    sample = draw.permutation(np.concatenate([np.arange(samples), draw.integers(0, samples, n - samples)]))
    truth = draw.integers(-1, classes, n)
    guess = np.where(draw.random(n) < 0.2, draw.integers(0, classes, n), np.maximum(truth, 0))
    score = draw.normal(size=n).round(1) + (truth < 0)
    return Community(truth, guess, score, sample, classes)


def test_by_hand():
    """Two copepods and two unknown, of which one is called a copepod; and an image refused in vain."""
    community = Community(
        truth_M=np.array([0, 0, -1, -1, 1, 1]),
        predicted_M=np.array([0, 0, 0, 1, 1, 1]),
        score_M=np.array([0.1, 0.8, 0.2, 0.9, 0.1, 0.1]),
        sample_M=np.array([0, 0, 0, 0, 1, 1]),
        n_classes=2,
    )
    found = community.distortion(0.5)
    # Sample 0 found: two of class 0 (one right, one unknown), two unknown (one right): nothing is distorted.
    np.testing.assert_allclose(found.oscd_S, [0, 0])
    none = community.distortion(INF)
    # Refusing none: class 0 has 3 for 2, class 1 has 1 for 0, the bin lacks 2, of 4 images each.
    np.testing.assert_allclose(none.over_S, [2 / 8, 0])
    np.testing.assert_allclose(none.under_S, [0, 0])
    np.testing.assert_allclose(none.unknown_S, [2 / 8, 0])
    everything = community.distortion(-INF)
    np.testing.assert_allclose(everything.oscd_S, [0.5, 1])
    np.testing.assert_allclose(everything.under_S, [0.25, 0.5])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(-2, 2))
def test_is_bray_curtis_over_known_classes_and_a_bin(seed, threshold):
    community = drawn(seed)
    found = community.distortion(threshold)
    for s in range(4):
        rows = community.sample_M == s
        truth = np.where(community.truth_M < 0, 3, community.truth_M)[rows]
        guess = np.where(community.score_M > threshold, 3, community.predicted_M)[rows]
        want = braycurtis(np.bincount(truth, minlength=4), np.bincount(guess, minlength=4))
        assert found.oscd_S[s] == pytest.approx(want)
    for part in (found.over_S, found.under_S, found.unknown_S):
        assert (part >= 0).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_no_threshold_is_better_than_the_chosen_one(seed):
    """With fewer images than candidates every threshold that makes a difference is tried."""
    community = drawn(seed)
    point = operating_point(community)
    tried = [-INF, INF, *np.unique(community.score_M)]
    best = min(float(community.distortion(threshold).oscd_S.mean()) for threshold in tried)
    assert point.oscd == pytest.approx(best)
    refused = community.score_M > point.threshold
    known = community.truth_M >= 0
    assert point.known_refused == pytest.approx(refused[known].mean())
    assert point.unknown_refused == pytest.approx(refused[~known].mean())


def test_without_unknown_images_a_perfect_classifier_refuses_none():
    truth = np.array([0, 1, 0])
    point = operating_point(Community(truth, truth, np.array([0.3, 0.2, 0.9]), np.zeros(3, int), 2))
    assert (point.threshold, point.oscd, point.known_refused) == (INF, 0, 0)
    assert np.isnan(point.unknown_refused)


def test_finding_nearly_all_unknown_can_distort_more_than_the_chosen_point():
    """What the paper warns of: few unknown images, of which some look known; finding 95 % refuses many."""
    draw = np.random.default_rng(0)
    truth = np.where(draw.random(4000) < 0.05, -1, draw.integers(0, 3, 4000))
    community = Community(
        truth,
        np.maximum(truth, 0),
        draw.normal(size=4000) + 1.5 * (truth < 0),
        draw.integers(0, 8, 4000),
        3,
    )
    point = operating_point(community)
    at_95 = np.nextafter(threshold_at_tpr(truth < 0, community.score_M), -INF)
    assert community.distortion(at_95).oscd_S.mean() > 4 * point.oscd
    assert point.known_refused < 0.1


def test_bad_input():
    good = {"predicted_M": np.array([0]), "score_M": np.array([0.0]), "sample_M": np.array([0])}
    with pytest.raises(ValueError, match="truth must be from 0 to 1, or -1 for unknown, got 2 in row 0"):
        Community(truth_M=np.array([2]), n_classes=2, **good)
    with pytest.raises(ValueError, match="got 2 of truth, 1 of predictions"):
        Community(truth_M=np.array([0, 1]), n_classes=2, **good)
    with pytest.raises(ValueError, match="novelty scores must be finite, got nan in row 0"):
        Community(np.array([0]), np.array([0]), np.array([np.nan]), np.array([0]), 2)
