"""Whitening of vectors in chunks: as that of rows in memory, and the same from any chunks."""

import numpy as np
import pytest
from planted import in_memory

from aqqua.curate.clusters.whiten import FLOOR, fit_whitening
from aqqua.evaluate.probes.whiten import fit_whitening as fit_in_memory
from aqqua.train.ranks import Ranks

DRAW = np.random.default_rng(0)
ROWS = (7 + DRAW.normal(size=(4000, 5)) @ DRAW.normal(size=(5, 5)) * [10, 3, 2, 1, 1]).astype(np.float16)


def test_it_is_the_whitening_of_rows_in_memory():
    chunked = fit_whitening(in_memory(ROWS), Ranks())(ROWS.astype(np.float64))
    whole = fit_in_memory(ROWS.astype(np.float64))(ROWS.astype(np.float64))
    # Axes may point either way: what is compared are products of rows.
    np.testing.assert_allclose(chunked[:50] @ chunked[:50].T, whole[:50] @ whole[:50].T, atol=1e-3)


def test_the_order_of_chunks_changes_no_bit():
    chunks = np.split(ROWS, 4)
    turned = np.concatenate([chunks[i] for i in (0, 3, 1, 2)])  # sums are taken from the first row of all
    one, other = (fit_whitening(in_memory(x, 1000), Ranks()) for x in (ROWS, turned))
    np.testing.assert_array_equal(one.mean_D, other.mean_D)
    np.testing.assert_array_equal(one.axes_DR, other.axes_DR)


def test_narrow_directions_are_not_blown_up():
    rows = np.array([[1.0, 0.001], [1, -0.001], [-1, 0.001], [-1, -0.001]], np.float32)
    white = fit_whitening(in_memory(rows), Ranks())(rows)
    assert np.abs(white[:, 0]) == pytest.approx(1 / np.sqrt(1 + FLOOR**2), rel=1e-5)
    assert np.abs(white[:, 1]) == pytest.approx(0.001 / np.hypot(0.001, FLOOR), rel=1e-4)


@pytest.mark.parametrize("rows", [np.full((6, 3), 0.1), np.zeros((1, 3))])
def test_rows_all_alike_become_zero(rows):
    assert not fit_whitening(in_memory(rows.astype(np.float32)), Ranks())(rows.astype(np.float32)).any()
