"""Validation rows: whole groups, no class lost from training, the same every time."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aqqua.evaluate.finetune.groups import rows_set_apart
from aqqua.store.split import NAMING, group_names

LABELLED = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=4, max_size=80)


@given(LABELLED, st.floats(0.05, 0.6), st.integers(0, 5))
def test_groups_stay_whole_and_every_class_stays_in_training(rows, share, seed):
    groups = [b"group%d" % g for g, _ in rows]
    label = np.array([c for _, c in rows])
    try:
        apart = rows_set_apart(groups, label, share, seed)
    except ValueError:
        assume(False)
    for name in set(groups):
        mine = [apart[i] for i in range(len(rows)) if groups[i] == name]
        assert len(set(mine)) == 1
    assert set(label[~apart]) == set(label)
    assert 0 < apart.sum() <= max(2 * share * len(rows), 1)


def test_about_the_share_is_set_apart_and_the_seed_decides():
    groups = [b"g%d" % (i // 5) for i in range(1000)]
    label = np.arange(1000) % 7
    first = rows_set_apart(groups, label, 0.2, 0)
    assert 0.2 <= first.mean() < 0.21
    np.testing.assert_array_equal(first, rows_set_apart(groups, label, 0.2, 0))
    assert (first != rows_set_apart(groups, label, 0.2, 1)).any()


def test_a_single_group_cannot_be_divided():
    with pytest.raises(ValueError, match="got 1 groups of 9 images"):
        rows_set_apart([b"one"] * 9, np.zeros(9, np.int64), 0.2, 0)


def test_images_without_a_group_are_their_own_and_copies_stay_together(disks_and_rods):
    table = disks_and_rods.dataset.table(NAMING)
    assert len(set(group_names(table))) == 16
    bare = table.set_column(1, "group", [[""] * len(table)])
    assert group_names(bare) == table["content"].to_pylist()
