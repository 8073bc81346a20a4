"""What is held back: whole groups, about a fifth, with as many classes as can be on both sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.evaluate.probes.validation import LARGEST_SHARE, validation_rows, validation_score


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 9)), min_size=1, max_size=80), st.integers(0, 5))
def test_groups_never_cross_and_something_is_left(rows, seed):
    labels, groups = np.array(rows).T
    held = validation_rows(labels, groups, seed)
    assert not held.all()
    np.testing.assert_array_equal(held, validation_rows(labels, groups, seed))
    share = held.mean()
    assert share <= LARGEST_SHARE
    if share:
        crossing = set(groups[held & (groups >= 0)]) & set(groups[~held & (groups >= 0)])
        # Only where no draw of groups leaves a class on both sides are single rows held back.
        by_group = {g: set(labels[groups == g]) for g in set(groups[groups >= 0])}
        shared = [c for c in set(labels) if sum(c in found for found in by_group.values()) > 1]
        assert (
            not crossing
            or not shared
            or max(np.bincount(groups[groups >= 0])) > LARGEST_SHARE * len(rows) / 2
        )


def test_about_a_fifth_of_many_groups():
    labels, groups = np.arange(2000) % 7, np.arange(2000) // 20
    shares = [validation_rows(labels, groups, seed).mean() for seed in range(10)]
    assert all(0.19 < share < 0.25 for share in shares)
    assert len({validation_rows(labels, groups, seed).tobytes() for seed in range(10)}) == 10


def test_a_rare_class_is_kept_on_both_sides():
    """Class 1 lives in two of fifty groups: most draws would put both on one side."""
    groups = np.repeat(np.arange(50), 10)
    labels = np.where(np.isin(groups, (3, 40)) & (np.arange(500) % 2 == 0), 1, 0)
    for seed in range(10):
        held = validation_rows(labels, groups, seed)
        assert {0, 1} == set(labels[held]) == set(labels[~held])


@pytest.mark.parametrize("groups", [np.zeros(60, int), np.repeat([0, 1], 30)], ids=["one", "two"])
def test_of_each_class_where_groups_are_too_large(groups):
    labels = np.arange(60) % 3
    held = validation_rows(labels, groups, 0)
    assert np.bincount(labels[held]).tolist() == [4, 4, 4]


def test_rows_without_group_are_groups_of_their_own():
    labels = np.arange(100) % 2
    assert 0.2 <= validation_rows(labels, np.full(100, -1), 0).mean() < 0.22


def test_every_class_keeps_rows_to_be_learned_from():
    labels = np.repeat([0, 1, 2, 3], [1, 2, 5, 50])
    for seed in range(10):
        held = validation_rows(labels, np.zeros(58, int), seed)
        assert [int(held[labels == c].sum()) for c in range(4)] == [0, 0, 1, 10]


def test_the_score_is_macro_f1_and_no_number_is_the_worst():
    found = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    assert validation_score(np.array([0, 1, 1, 1]), found) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert validation_score(np.array([0, 1, 1, 1]), found * [1, np.nan]) == -1
