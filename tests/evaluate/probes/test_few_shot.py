"""Few-shot: so many rows of each class, other ones in each try, and their spread."""

import numpy as np
import pytest
from clouds import clouds

from aqqua.evaluate.probes.few_shot import FewShot, drawn_rows, few_shot
from aqqua.evaluate.probes.knn import Knn


@pytest.mark.parametrize("count", [1, 5, 20])
def test_so_many_of_each_class_or_all_it_has(count):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 2, 5], [40, 3, 17]))
    rows = drawn_rows(labels, count, 0)
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(rows) > 0).all()
    got = np.bincount(labels[rows], minlength=6)
    assert got.tolist() == [min(count, 40), 0, min(count, 3), 0, 0, min(count, 17)]


def test_every_row_has_its_turn():
    labels = np.repeat([0, 1], 6)
    drawn = [drawn_rows(labels, 1, (0, seed)) for seed in range(80)]
    assert set(np.concatenate(drawn).tolist()) == set(range(12))


def accuracy(truth, found):
    return float((found.argmax(axis=1) == truth).mean())


def test_more_shots_are_better_and_spread_less():
    rows, labels, groups = clouds(40, spread=2.0, plain=True)
    asked, truth, _ = clouds(40, seed=1, spread=2.0, plain=True)
    told = []
    given = Knn(1), rows, labels, 4, groups, asked, truth, accuracy, 0
    found = few_shot(*given, shots=(1, 20), tries=4, advance=told.append)
    assert [each.shots for each in found] == [1, 20]
    assert all(len(set(each.scores)) > 1 for each in found)
    assert found[1].mean > found[0].mean + 0.05
    assert found[1].sd < found[0].sd
    assert told == list(range(1, 9))
    assert few_shot(*given, shots=(1, 20), tries=4) == found


def test_mean_and_spread_by_hand():
    assert FewShot(5, (0.2, 0.4, 0.9)).mean == pytest.approx(0.5)
    assert FewShot(5, (0.2, 0.4, 0.9)).sd == pytest.approx(0.13**0.5)
    assert FewShot(5, (0.2,)).sd == 0
