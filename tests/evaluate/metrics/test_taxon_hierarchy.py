"""Hierarchical scores: on a small tree by hand, and against hiclass on random ones."""

import numpy as np
import pytest
from hiclass import metrics as hiclass
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.evaluate.metrics.hierarchy import (
    hierarchical_scores,
    lca_distance_M,
    membership,
    node_counts,
    rank_accuracy,
)

# By kingdom, class, order, genus: Copepoda, its egg, Calanoida, Acartia (a calanoid), a diatom, detritus.
ANCESTORS = np.array(
    [[0, 2, -1, -1], [0, 2, -1, -1], [0, 2, 4, -1], [0, 2, 4, 5], [1, 3, -1, 6], [-1] * 4], np.int32
)


def test_ranks_by_hand():
    truth, guess = np.array([3, 3, 3, 2, 4, 5, 0]), np.array([3, 2, 0, 3, 3, 3, 1])
    found = rank_accuracy(truth, guess, ANCESTORS)
    # kingdom: 6 asked (detritus has none), the diatom is wrong. order: 4 asked, "Copepoda" lacks it.
    # genus: 3 Acartia and the diatom are asked, one is right; Calanoida is not asked for a genus, nor is
    # Copepoda for an order, which its egg lacks too.
    assert found.images_R.tolist() == [6, 6, 4, 4]
    np.testing.assert_allclose(found.accuracy_R, [5 / 6, 5 / 6, 3 / 4, 1 / 4])
    alone = rank_accuracy(np.array([5]), np.array([0]), ANCESTORS)
    assert np.isnan(alone.accuracy_R).all()


def test_a_class_stands_for_its_ancestors_and_for_itself_where_they_do_not_tell_it():
    # Copepoda and its egg share their ancestors and get a node each, and so does detritus, which has none.
    assert membership(ANCESTORS).sum(axis=1).tolist() == [3, 3, 3, 4, 3, 1]
    np.testing.assert_array_equal(node_counts(np.array([0]), np.array([1]), ANCESTORS), [[2, 3, 3]])
    np.testing.assert_array_equal(node_counts(np.array([2]), np.array([3]), ANCESTORS), [[3, 4, 3]])


def test_finer_than_the_truth_costs_precision_only():
    found = hierarchical_scores(np.array([2]), np.array([3]), ANCESTORS)
    assert (found.precision, found.recall) == (0.75, 1)
    assert found.f1 == pytest.approx(2 * 0.75 / 1.75)
    wrong = hierarchical_scores(np.array([5]), np.array([4]), ANCESTORS)
    assert (wrong.precision, wrong.recall, wrong.f1) == (0, 0, 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32))
def test_as_hiclass(n, classes, seed):
    """Random trees of 4 ranks with unknown ranks; hiclass gets the same paths as words."""
    draw = np.random.default_rng(seed)
    taxa = [draw.integers(0, 3, classes) + 3 * r for r in range(4)]
    unknown = draw.random((classes, 4)) < 0.3
    ancestors = np.where(unknown, -1, np.column_stack(taxa)).astype(np.int32)
    member = membership(ancestors)
    paths = [[str(k) if held else "" for k, held in enumerate(row)] for row in member]
    truth, guess = draw.integers(0, classes, n), draw.integers(0, classes, n)
    y, found = np.array([paths[c] for c in truth]), hierarchical_scores(truth, guess, ancestors)
    y_found = np.array([paths[c] for c in guess])
    assert found.precision == pytest.approx(hiclass.precision(y, y_found))
    assert found.recall == pytest.approx(hiclass.recall(y, y_found))
    assert found.f1 == pytest.approx(hiclass.f1(y, y_found, zero_division=0.0))
    perfect = hierarchical_scores(truth, truth, ancestors)
    assert (perfect.precision, perfect.recall, perfect.f1) == (1, 1, 1)
    same = hierarchical_scores(truth, guess, ancestors[:, draw.permutation(4)])
    assert same == found


def test_distance():
    distance = np.array([[0, 2, 6], [2, 0, 6], [6, 6, 0]], np.float32)
    found = lca_distance_M(np.array([0, 0, 2]), np.array([0, 1, 1]), distance)
    assert found.tolist() == [0, 2, 6]


def test_bad_input():
    with pytest.raises(ValueError, match="truth must be from 0 to 5, got 6 in row 0"):
        rank_accuracy(np.array([6]), np.array([0]), ANCESTORS)
    with pytest.raises(ValueError, match=r"distances must be square, got shape \(2, 3\)"):
        lca_distance_M(np.array([0]), np.array([0]), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="got 1 of truth, 2 of predictions"):
        hierarchical_scores(np.array([0]), np.array([0, 1]), ANCESTORS)
