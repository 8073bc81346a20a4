"""The choice of a search, and what it tells."""

import numpy as np
import pytest
from test_neighbours import by_sorting, make_points

from aqqua.explore.atlas import cells
from aqqua.explore.atlas.neighbours import Want
from aqqua.explore.atlas.search import Search, best_search


def test_exact_up_to_so_many_pairs_and_told():
    points, search = make_points(50), Search(exact_pairs=2500)
    found = search(points, points, [Want(4)], same=np.arange(50))[0]
    assert np.array_equal(found.row_QK, by_sorting(points, 4, False))
    assert search.log == [{"queries": 50, "base": 50, "recall": [1.0], "method": "exact"}]


def test_cells_above_and_recall_told(monkeypatch):
    monkeypatch.setattr(cells, "MEMBERS", 20)
    points, search = make_points(400, groups=2), Search(exact_pairs=100, recall=0.8)
    found = search(points, points, [Want(4)], same=np.arange(400))[0]
    (told,) = search.log
    assert told["method"] == "cells"
    assert told["recall"][0] >= 0.8
    assert 1 <= told["probed"][0] < told["cells"]
    assert np.isin(found.row_QK, by_sorting(points, 4, False)).mean() > 0.8


def test_no_more_cells_than_allowed_and_the_lower_recall_is_told(monkeypatch):
    monkeypatch.setattr(cells, "MEMBERS", 20)
    points, search = make_points(400, groups=2), Search(exact_pairs=100, recall=0.99, most_cells=2)
    found = search(points, points, [Want(4)], same=np.arange(400))[0]
    (told,) = search.log
    assert told["probed"] == [2]
    assert told["recall"][0] < 0.9
    right = [
        np.isin(one, other).mean()
        for one, other in zip(found.row_QK, by_sorting(points, 4, False), strict=True)
    ]
    assert np.mean(right) == pytest.approx(told["recall"][0], abs=0.05)


def test_this_machine_gets_a_search():
    search = best_search(7, 0.9, 5, 12)
    assert (search.seed, search.recall, search.most_cells, search.exact_pairs) == (7, 0.9, 5, 12)
