"""Label issues by hand, and planted wrong labels."""

import numpy as np
import pytest

from aqqua.explore.atlas.label_issues import label_issues
from aqqua.explore.atlas.neighbours import NONE, Found, Points, Want, nearest


def made(rows, similarity=None):
    row = np.array(rows, np.int64)
    return Found(row, np.full(row.shape, 0.5, np.float32) if similarity is None else np.float32(similarity))


def test_by_hand():
    found = made([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]], [[0.4, 0.3, 0.3]] * 4)
    issue = label_issues(found, np.array([0, 0, 1, 2]), np.zeros(4, np.int64))
    # Votes of the first: .4 for its own label, .3 and .3 for two others: (.6 + .15) / 1.5.
    assert issue[0] == pytest.approx(0.5)
    assert issue[2] == pytest.approx((1 + 0.5 * 0.7) / 1.5)  # all for others, .7 of them for one


def test_bounds():
    alike = made([[1, 2], [0, 2], [0, 1]])
    assert label_issues(alike, np.array([5, 5, 5]), np.zeros(3, np.int64)).tolist() == [0, 0, 0]
    assert label_issues(alike, np.array([5, 5, 1]), np.zeros(3, np.int64))[2] == pytest.approx(1)


def test_who_has_no_say():
    found = made([[1, 2], [0, 3], [1, NONE], [NONE, NONE]])
    label, group = np.array([0, -1, 1, 1]), np.array([0, 0, 1, 1])
    # 0: one neighbour without a label, one of another instrument; 1: no label; 2 and 3: nobody.
    assert np.isnan(label_issues(found, label, group)).all()


def test_negative_cosines_vote_for_next_to_nothing():
    found = made([[1, 2], [0, 2], [0, 1]], [[0.5, -0.5]] * 3)
    issue = label_issues(found, np.array([0, 0, 1]), np.zeros(3, np.int64))
    assert issue[0] == pytest.approx(0, abs=1e-5)


def test_planted_wrong_labels_come_first():
    random = np.random.default_rng(0)
    label = np.repeat(np.arange(5), 60)
    unit = np.eye(5)[label] + 0.15 * random.normal(size=(300, 5))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    points = Points(unit.astype(np.float32), np.zeros(300, np.int64))
    found = nearest(points, points, [Want(10)], same=np.arange(300))[0]
    wrong = random.choice(300, 15, replace=False)
    label[wrong] = (label[wrong] + 1) % 5
    issue = label_issues(found, label, np.zeros(300, np.int64))
    assert set(np.argsort(-issue)[:15].tolist()) == set(wrong.tolist())
