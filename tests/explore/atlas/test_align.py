"""Procrustes alignment: turned maps are turned back."""

import numpy as np
import pytest
from scipy.spatial import procrustes

from aqqua.explore.atlas.align import align


@pytest.fixture
def old():
    random = np.random.default_rng(0)
    return random.normal(size=(50, 2)) * [2, 1], np.arange(50, dtype=np.uint64)


@pytest.mark.parametrize("mirror", [1, -1])
def test_a_turned_and_mirrored_map_comes_back(old, mirror):
    xy, key = old
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]]) * [1, mirror]
    order = np.random.default_rng(1).permutation(50)[:30]  # some images, in another order
    new = 3 * (xy @ turn)[order] + 5
    found = align(new.astype(np.float32), key[order], xy, key)
    np.testing.assert_allclose(found.turn_22 @ found.turn_22.T, np.eye(2), atol=1e-12)
    back = (new @ found.turn_22 - (new @ found.turn_22).mean(0)) / 3
    np.testing.assert_allclose(back, xy[order] - xy[order].mean(0), atol=1e-5)
    assert found.shared == 30
    assert found.disparity == pytest.approx(0, abs=1e-6)


def test_disparity_as_scipy_has_it(old):
    xy, key = old
    new = np.random.default_rng(2).normal(size=(50, 2))
    assert align(new, key, xy, key).disparity == pytest.approx(procrustes(xy, new)[2])


def test_too_few_shared_or_all_in_one_place(old):
    xy, key = old
    with pytest.raises(ValueError, match="share at least 3 images to be aligned, got 2"):
        align(xy[:2], key[:2], xy, key)
    with pytest.raises(ValueError, match="different places to be aligned, got one place"):
        align(np.ones((50, 2)), key, xy, key)
