"""The nearest centroid: against distances in float64, whatever the sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.curate.clusters import nearest
from aqqua.curate.clusters.nearest import Nearest


def squared_distances(x: np.ndarray, c: np.ndarray) -> np.ndarray:
    return ((x[:, None].astype(np.float64) - c[None].astype(np.float64)) ** 2).sum(-1)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40), clusters=st.integers(1, 70), width=st.integers(1, 33), seed=st.integers(0, 99)
)
def test_is_the_nearest_in_float64(rows, clusters, width, seed):
    draw = np.random.default_rng(seed)
    x, c = (draw.normal(size=(n, width)).astype(np.float32) for n in (rows, clusters))
    label, squared = Nearest(torch.from_numpy(c))(torch.from_numpy(x))
    far = squared_distances(x, c)
    np.testing.assert_allclose(squared.numpy(), far[np.arange(rows), label.numpy()], rtol=1e-5, atol=1e-6)
    assert (squared.numpy() <= far.min(1) * (1 + 1e-5) + 1e-5).all()


def test_many_tiles_are_one(monkeypatch):
    draw = np.random.default_rng(0)
    x, c = (torch.from_numpy(draw.normal(size=(n, 8)).astype(np.float32)) for n in (333, 257))
    whole = Nearest(c)(x)
    monkeypatch.setattr(nearest, "CPU_ROWS", 50)
    monkeypatch.setattr(nearest, "CPU_CENTROIDS", 19)
    tiled = Nearest(c)(x)
    assert torch.equal(whole[0], tiled[0])
    torch.testing.assert_close(whole[1], tiled[1])


def test_of_equals_the_first_is_named(monkeypatch):
    c = torch.tensor([[1.0, 2], [3, 4], [1, 2], [3, 4]])
    assert Nearest(c)(c)[0].tolist() == [0, 1, 0, 1]
    monkeypatch.setattr(nearest, "CPU_CENTROIDS", 2)
    assert Nearest(c)(c)[0].tolist() == [0, 1, 0, 1]


def test_what_all_vectors_share_costs_no_precision():
    draw = np.random.default_rng(0)
    c = (draw.normal(size=(50, 16)) + 3000).astype(np.float32)
    x = (c[draw.integers(0, 50, 400)] + draw.normal(size=(400, 16)) * 0.3).astype(np.float32)
    label, squared = Nearest(torch.from_numpy(c))(torch.from_numpy(x))
    far = squared_distances(x, c)
    assert label.tolist() == far.argmin(1).tolist()
    np.testing.assert_allclose(squared.numpy(), far.min(1), rtol=1e-3)


def test_both_products_agree():
    draw = np.random.default_rng(0)
    x, c = (torch.from_numpy(draw.normal(size=(n, 384)).astype(np.float32)) for n in (64, 100))
    bias = torch.arange(100.0)
    torch.testing.assert_close(nearest._product(x, c, bias), nearest._addmm(x, c, bias), rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_the_fast_product_is_there():
    assert nearest.PRODUCT == "oneDNN"
