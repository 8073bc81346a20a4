"""Novelty: quantiles, equals, outliers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aqqua.explore.atlas.neighbours import NONE, Found
from aqqua.explore.atlas.novelty import novelty


def test_by_hand():
    similarity = np.float32([[0.9, 0.9], [0.1, 0.5], [0.9, 0.9], [0.5, 0.5]])
    found = Found(np.zeros((4, 2), np.int64), similarity)
    assert np.allclose(novelty(found), np.array([0.5, 3, 0.5, 2]) / 3)


def test_without_neighbours_it_is_the_newest():
    found = Found(np.array([[1], [0], [NONE]]), np.float32([[-1], [-0.5], [0]]))
    assert novelty(found).tolist() == [0.5, 0.0, 1.0]


@given(st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=40))
def test_a_quantile(similarity):
    found = Found(np.zeros((len(similarity), 1), np.int64), np.float32(similarity)[:, None])
    score = novelty(found)
    assert score.min() >= 0
    assert score.max() <= 1
    assert abs(score.mean() - 0.5) < 1e-5
    order = np.argsort(similarity)
    assert (np.diff(score[order]) <= 1e-7).all()
