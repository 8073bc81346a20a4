"""Trustworthiness against scikit-learn, continuity as its mirror."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from aqqua.explore.atlas import trust as module
from aqqua.explore.atlas.trust import trust


@pytest.fixture(scope="module")
def made():
    random = np.random.default_rng(0)
    unit = random.normal(size=(200, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit.astype(np.float32), (unit[:, :2] + 0.3 * random.normal(size=(200, 2))).astype(np.float32)


@pytest.mark.parametrize("k", [3, 20])
def test_as_scikit_learn_and_its_mirror(made, monkeypatch, k):
    monkeypatch.setattr(module, "_CELLS", 3000)  # a few points at a time
    unit, xy = made
    found = trust(unit, xy, k, 1000, 0)
    assert found.trustworthiness == pytest.approx(
        trustworthiness(unit, xy, n_neighbors=k, metric="cosine"), abs=1e-6
    )
    # Euclidean distances of vectors of length one are ordered as their cosines.
    assert found.continuity == pytest.approx(trustworthiness(xy, unit, n_neighbors=k), abs=1e-6)
    assert len(found.query_Q) == 200


def test_a_sample_is_near_the_whole(made):
    unit, xy = made
    whole, part = trust(unit, xy, 10, 200, 0), trust(unit, xy, 10, 80, 0)
    assert len(part.query_Q) == 80
    assert part.trustworthiness == pytest.approx(whole.trustworthiness, abs=0.03)
    assert part.trustworthiness != whole.trustworthiness


def test_the_same_space_is_perfect_and_a_shuffled_map_is_not(made):
    unit, _ = made
    flat = unit[:, :2] / np.linalg.norm(unit[:, :2], axis=1, keepdims=True)
    assert trust(flat, flat, 5, 200, 0).trustworthiness == pytest.approx(1)
    shuffled = np.random.default_rng(1).permutation(flat)
    assert trust(flat, shuffled, 5, 200, 0).trustworthiness < 0.6


def test_k_must_be_below_half(made):
    with pytest.raises(ValueError, match="less than half of 200 points, got 100; lower it"):
        trust(*made, 100, 10, 0)
