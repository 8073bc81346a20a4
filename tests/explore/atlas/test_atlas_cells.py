"""Neighbours in cells against the exact ones, and the recall that is told."""

import numpy as np
import pytest

from aqqua.explore.atlas import cells as module
from aqqua.explore.atlas.cells import Recall, make_cells, measure_recall, nearest_in_cells
from aqqua.explore.atlas.neighbours import NONE, Found, Points, Want, nearest

ROWS = 1500


@pytest.fixture(scope="module")
def points() -> Points:
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 16))
    unit = centres[random.integers(0, 40, ROWS)] + 0.5 * random.normal(size=(ROWS, 16))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return Points(unit.astype(np.float16), random.integers(0, 2, ROWS).astype(np.int64))


@pytest.fixture(scope="module", autouse=True)
def _small_cells():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEMBERS", 50)
        patch.setattr(module, "BATCH", 700)
        yield


def share(found: Found, exact: Found) -> float:
    pairs = zip(found.row_QK, exact.row_QK, strict=True)
    return float(np.mean([np.isin(one, other).mean() for one, other in pairs]))


def test_a_cell_holds_one_group_and_every_row_is_in_one(points):
    cells = make_cells(points, 0)
    assert len(cells.centre_CR) == len(cells.group_C) == sum(-(-n // 50) for n in np.bincount(points.group_B))
    assert (cells.group_C[cells.cell_B] == points.group_B).all()
    members = np.concatenate([cells.members(c) for c in range(len(cells.group_C))])
    assert np.array_equal(np.sort(members), np.arange(ROWS))


@pytest.mark.parametrize("want", [Want(10), Want(5, foreign=True)], ids=["all", "foreign"])
def test_recall_is_what_was_measured(points, want):
    cells = make_cells(points, 0)
    exact = nearest(points, points, [want], same=np.arange(ROWS))[0]
    told = measure_recall(cells, want, 0.9, 99, 0)
    assert told.share >= 0.9
    assert 1 <= told.cells < len(cells.centre_CR) / 2
    found = nearest_in_cells(points, cells, [(want, told)], same=np.arange(ROWS))[0]
    assert share(found, exact) == pytest.approx(told.share, abs=0.04)
    assert not (found.row_QK == np.arange(ROWS)[:, None]).any()
    if want.foreign:
        assert (points.group_B[found.row_QK] != points.group_B[:, None]).all()


def test_all_cells_find_all(points):
    cells, want = make_cells(points, 0), Want(10)
    few = Points(points.unit_BR[:300], points.group_B[:300])
    exact = nearest(few, points, [want])[0]
    found = nearest_in_cells(few, cells, [(want, Recall(len(cells.group_C), 1.0))])[0]
    assert np.array_equal(found.row_QK, exact.row_QK)
    np.testing.assert_allclose(found.similarity_QK, exact.similarity_QK, atol=1e-5)


def test_nobody_is_foreign_among_one_group(points):
    alike = Points(points.unit_BR[:200], np.zeros(200, np.int64))
    cells, want = make_cells(alike, 0), Want(3, foreign=True)
    told = measure_recall(cells, want, 0.9, 99, 0)
    found = nearest_in_cells(alike, cells, [(want, told)], same=np.arange(200))[0]
    assert (found.row_QK == NONE).all()
