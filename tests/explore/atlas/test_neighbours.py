"""Exact neighbours against a plain sort, and the cells against the exact ones."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from aqqua.explore.atlas import neighbours
from aqqua.explore.atlas.neighbours import NONE, Points, Want, nearest


def make_points(rows: int, width: int = 6, groups: int = 3, seed: int = 0) -> Points:
    random = np.random.default_rng(seed)
    unit = random.normal(size=(rows, width))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return Points(unit.astype(np.float32), random.integers(0, groups, rows).astype(np.int64))


def by_sorting(points: Points, k: int, foreign: bool) -> np.ndarray:
    cosine = points.unit_BR.astype(np.float64) @ points.unit_BR.T.astype(np.float64)
    np.fill_diagonal(cosine, -np.inf)
    if foreign:
        cosine[points.group_B[:, None] == points.group_B] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(cosine, order, 1) == -np.inf, NONE, order)


@pytest.mark.parametrize("tile", [(1024, 8192), (7, 11)])
def test_neighbours_are_those_of_a_sort(monkeypatch, tile):
    monkeypatch.setattr(neighbours, "_QUERIES", tile[0])
    monkeypatch.setattr(neighbours, "_BASE", tile[1])
    points = make_points(60)
    told = []
    found = nearest(points, points, [Want(5), Want(3, foreign=True)], same=np.arange(60), tell=told.append)
    assert np.array_equal(found[0].row_QK, by_sorting(points, 5, False))
    assert np.array_equal(found[1].row_QK, by_sorting(points, 3, True))
    assert told[-1] == 60
    there = np.take_along_axis(points.unit_BR @ points.unit_BR.T, found[0].row_QK, 1)
    np.testing.assert_allclose(found[0].similarity_QK, there, atol=1e-5)


def test_agrees_with_scikit_learn():
    points = make_points(80)
    wanted = NearestNeighbors(n_neighbors=4, metric="cosine").fit(points.unit_BR)
    rows = wanted.kneighbors(return_distance=False)
    assert np.array_equal(nearest(points, points, [Want(4)], same=np.arange(80))[0].row_QK, rows)


def test_queries_that_are_not_of_the_base_find_themselves_out():
    base = make_points(30)
    queries = Points(base.unit_BR[10:12], base.group_B[10:12])
    assert nearest(queries, base, [Want(1)])[0].row_QK.tolist() == [[10], [11]]


def test_none_where_there_are_too_few():
    points = Points(make_points(4).unit_BR, np.array([0, 0, 0, 1]))
    found = nearest(points, points, [Want(5), Want(2, foreign=True)], same=np.arange(4))
    assert (found[0].row_QK[:, 3:] == NONE).all()
    assert (found[0].row_QK[:, :3] < 4).all()
    assert found[1].row_QK.tolist() == [[3, NONE]] * 3 + [found[1].row_QK[3].tolist()]
    assert (found[1].similarity_QK[:3, 1] == 0).all()


def test_equal_ones_come_by_row():
    unit = np.tile(np.float32([1, 0]), (9, 1))
    points = Points(unit, np.zeros(9, np.int64))
    found = nearest(points, points, [Want(8)], same=np.arange(9))[0]
    assert found.row_QK[4].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
