"""Water-filling: the published example, and what holds of every dealing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.curate.balance.waterfill import fill_tree, water_fill, water_fill_counts

SIZES = st.lists(st.integers(0, 10**6), min_size=1, max_size=40)
ROOM = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


def array(values: list[float]) -> np.ndarray:
    return np.array(values, np.float64)


def test_the_published_example():
    assert water_fill_counts(np.array([5, 100, 3, 50]), 40).tolist() == [5, 16, 3, 16]
    assert water_fill(array([5, 100, 3, 50]), array([40])).tolist() == [5, 16, 3, 16]


@given(SIZES, st.floats(0, 1), st.integers(0, 2**64 - 1))
def test_counts_add_up_and_are_level(sizes, share, seed):
    sizes_K = np.array(sizes, np.int64)
    target = int(share * sizes_K.sum())
    counts = water_fill_counts(sizes_K, target, seed)
    assert counts.sum() == target
    assert (counts >= 0).all()
    assert (counts <= sizes_K).all()
    unfilled = counts[counts < sizes_K]
    if len(unfilled):  # those that are not full stand at one level, give or take the one left over
        assert unfilled.max() - unfilled.min() <= 1
        assert counts.max() <= unfilled.min() + 1
    assert (water_fill_counts(sizes_K, target, seed) == counts).all()


def test_what_is_left_over_is_drawn_by_the_seed():
    sizes = np.full(100, 10)
    dealt = {tuple(water_fill_counts(sizes, 250, seed)) for seed in range(5)}
    assert len(dealt) == 5
    assert {sum(counts) for counts in dealt} == {250}


@pytest.mark.parametrize(("sizes", "target"), [([-1, 3], 1), ([1, 3], 5), ([1, 3], -1)])
def test_targets_and_sizes_out_of_range_are_refused(sizes, target):
    with pytest.raises(ValueError, match=r"water_fill: .* must be"):
        water_fill_counts(np.array(sizes), target)


@given(ROOM, st.floats(0, 1.2))
def test_shares_add_up_and_are_level(room, share):
    room_K, target = array(room), share * sum(room)
    shares = water_fill(room_K, array([target]))
    near = 1e-9 * max(sum(room), 1)
    assert shares.sum() == pytest.approx(min(target, room_K.sum()), abs=near)
    assert (shares <= room_K).all()
    unfilled = shares[shares < room_K]
    if len(unfilled):
        assert unfilled.max() == pytest.approx(unfilled.min(), abs=near)
        assert shares.max() <= unfilled.min() + near


@given(ROOM, st.floats(0, 1), st.floats(0, 1))
def test_more_to_deal_out_takes_from_nobody(room, a, b):
    low, high = sorted((a, b))
    shares = [water_fill(array(room), array([share * sum(room)])) for share in (low, high)]
    assert (shares[1] >= shares[0] - 1e-9 * max(sum(room), 1)).all()


@given(SIZES, st.floats(0, 1))
def test_whole_and_broken_shares_agree(sizes, share):
    sizes_K = np.array(sizes, np.int64)
    target = int(share * sizes_K.sum())
    whole, broken = water_fill_counts(sizes_K, target), water_fill(sizes_K.astype(float), array([target]))
    assert (np.abs(whole - broken) <= 1 + 1e-6).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100)), min_size=1, max_size=40), st.floats(0, 2))
def test_groups_do_not_know_of_each_other(members, share):
    group, room = np.array([g for g, _ in members]), array([r for _, r in members])
    target = share * np.bincount(group, room, 5)
    together = water_fill(room, target, group)
    for g in range(5):
        alone = water_fill(room[group == g], target[g : g + 1])
        assert together[group == g] == pytest.approx(alone, abs=1e-9 * max(room.sum(), 1))


def test_demands_set_the_proportion():
    shares = water_fill(array([100, 100, 4]), array([40]), None, array([1, 2, 3]))
    assert shares == pytest.approx([12, 24, 4])


PATHS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 3)), min_size=1, unique=True)


@given(PATHS, st.data())
def test_a_tree_is_its_levels_one_after_the_other(paths, data):
    path = np.array(sorted(paths), np.int64)
    room = array(data.draw(st.lists(st.floats(0, 50), min_size=len(path), max_size=len(path))))
    target = array([30.0, 10.0])
    got = fill_tree(room, path, target)
    near = 1e-9 * max(room.sum(), 1)
    for tree in (0, 1):
        of_tree = path[:, 0] == tree
        branches = sorted(set(path[of_tree, 1].tolist()))
        masks = [of_tree & (path[:, 1] == branch) for branch in branches]
        if not branches:
            continue
        dealt = water_fill(array([room[mask].sum() for mask in masks]), target[tree : tree + 1])
        for mask, amount in zip(masks, dealt, strict=True):
            assert got[mask].sum() == pytest.approx(amount, abs=near)
            assert got[mask] == pytest.approx(water_fill(room[mask], array([amount])), abs=near)
    assert (got <= room).all()


def test_leaves_of_two_parents_may_share_a_number():
    path = np.array([[0, 1, 7], [0, 2, 7], [0, 2, 8]])
    assert fill_tree(array([9, 9, 9]), path, array([8])).tolist() == [4, 2, 2]
    with pytest.raises(ValueError, match="leaves must differ"):
        fill_tree(array([1, 1]), np.array([[0, 1], [0, 1]]), array([1]))


def test_a_million_leaves_keep_the_sum():
    draw = np.random.default_rng(0)
    room = draw.pareto(1.1, 10**6)
    path = np.column_stack([np.zeros(10**6, np.int64), np.arange(10**6) // 1000, np.arange(10**6)])
    shares = fill_tree(room, path, array([room.sum() / 16]))
    assert shares.sum() == pytest.approx(room.sum() / 16, rel=1e-9)
