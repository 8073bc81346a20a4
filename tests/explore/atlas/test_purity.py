"""Purity by hand, and against chance."""

import numpy as np
import pytest

from aqqua.explore.atlas.neighbours import NONE
from aqqua.explore.atlas.purity import foreign_purity, purity


def test_by_hand():
    row = np.array([[1, 2], [0, 3], [0, NONE], [0, 1]])
    found = purity(row, np.array([0, 0, 1, -1]))
    # 0: one of two; 1: one of one that has a kind; 2: none of one; 3 is not asked.
    assert found.share == pytest.approx((0.5 + 1 + 0) / 3)
    assert found.by_kind == pytest.approx((0.75 + 0) / 2)
    assert found.chance == pytest.approx(2 / 6)


def test_nothing_to_compare():
    assert purity(np.array([[1], [0]]), np.array([-1, -1])).share is None
    assert purity(np.array([[1], [0]]), np.array([0, -1])).share is None


def test_some_points_alone():
    assert purity(np.array([[0], [2]]), np.array([0, 0, 1]), np.array([1, 2])).share == 1.0
    assert purity(np.array([[2]]), np.array([0, 0, 1]), np.array([1])).share == 0.0


def test_random_neighbours_are_as_pure_as_chance():
    random = np.random.default_rng(0)
    kind = random.choice(4, 4000, p=[0.7, 0.1, 0.1, 0.1])
    found = purity(random.integers(0, 4000, (4000, 20)), kind)
    assert found.share == pytest.approx(found.chance, abs=0.01)
    assert found.chance == pytest.approx(0.52, abs=0.02)


def test_across_instruments_only_shared_labels_are_asked():
    label, group = np.array([0, 1, 0, 2, -1]), np.array([0, 0, 1, 1, 1])
    row = np.array([[2, 3], [2, 3], [0, 1], [0, 1], [0, 1]])
    found = foreign_purity(row, label, group)
    assert found.share == pytest.approx(0.5)  # points 0 and 2, each with one of two
    assert found.chance == pytest.approx(0.5)
    assert foreign_purity(row, np.array([0, 1, 2, 3, -1]), group).share is None
    assert foreign_purity(row, np.full(5, -1), group).share is None
