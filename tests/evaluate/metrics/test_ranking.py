"""Ranking scores against scikit-learn, with equal scores, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from aqqua.evaluate.metrics.ranking import auroc, average_precision, fpr_at_tpr, threshold_at_tpr


@settings(deadline=None, max_examples=80)
@given(st.integers(2, 60), st.integers(1, 30), st.sampled_from([0.5, 0.8, 0.95, 1.0]), st.integers(0, 2**32))
def test_as_scikit_learn(n, distinct, tpr, seed):
    draw = np.random.default_rng(seed)
    positive, score = draw.random(n) < 0.4, draw.integers(0, distinct, n) / 7
    positive[:2] = True, False
    assert auroc(positive, score) == pytest.approx(sk.roc_auc_score(positive, score))
    assert average_precision(positive, score) == pytest.approx(sk.average_precision_score(positive, score))
    fpr, reached, threshold = sk.roc_curve(positive, score, drop_intermediate=False)
    first = np.argmax(reached >= tpr)
    assert fpr_at_tpr(positive, score, tpr) == pytest.approx(fpr[first])
    assert threshold_at_tpr(positive, score, tpr) == threshold[first]
    assert (score[positive] >= threshold_at_tpr(positive, score, tpr)).mean() >= tpr


def test_by_hand():
    positive = np.array([True, False, True, False])
    score = np.array([4.0, 3.0, 2.0, 1.0])
    assert auroc(positive, score) == 0.75  # of 4 pairs one is the wrong way round
    assert average_precision(positive, score) == pytest.approx((1 + 2 / 3) / 2)
    assert fpr_at_tpr(positive, score) == 0.5
    assert threshold_at_tpr(positive, score) == 2
    assert auroc(positive, np.zeros(4)) == 0.5
    assert average_precision(positive, np.zeros(4)) == 0.5
    assert fpr_at_tpr(positive, np.zeros(4)) == 1


def test_only_the_order_counts():
    draw = np.random.default_rng(0)
    positive, score = draw.random(50) < 0.5, draw.normal(size=50)
    for ranked in (auroc, average_precision, fpr_at_tpr):
        assert ranked(positive, np.exp(3 * score)) == ranked(positive, score)


def test_bad_input():
    with pytest.raises(ValueError, match="both sides must have images, got 2 of 2 positive"):
        auroc(np.array([True, True]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="positives must be true or false, got int64; compare"):
        auroc(np.array([0, 1]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="scores must be finite, got nan in row 1"):
        average_precision(np.array([True, False]), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"must be in \(0, 1\], got 95"):
        fpr_at_tpr(np.array([True, False]), np.array([0.0, 1.0]), 95)
