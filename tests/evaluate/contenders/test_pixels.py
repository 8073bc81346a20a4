"""The raw-pixel baseline: background 0, full scale 1, nothing stretched."""

import numpy as np
import pytest
from drawn_images import make_dataset

from aqqua.evaluate.contenders.pixels import PIXEL_SIDE, Pixels, pixel_features
from aqqua.evaluate.features import all_features


def test_pixel_baseline(tmp_path):
    """Background is 0, full scale is 1, nothing is stretched, colour is the mean of its channels."""
    grey = np.full((10, 40), 200, np.uint8)
    grey[3:7, 18:22] = 100
    tall = np.full((64, 8), 50, np.uint8)
    tall[20:44, 1:7] = 150
    arrays = {
        "grey": grey,
        "deep": grey.astype("<u2") * 257,
        "colour": np.stack([grey, grey, grey], axis=2),
        "tinted": np.stack([grey, np.full_like(grey, 90), np.full_like(grey, 7)], axis=2),
        "tall": tall,
        "flat": np.full((9, 9), 123, np.uint8),
        "dot": np.full((1, 1), 255, np.uint8),
    }
    made = make_dataset(tmp_path / "pixels", list(arrays.values()))
    ids = made.table(["image_id"])["image_id"].to_pylist()
    rows, names = all_features(pixel_features, made), list(arrays)
    got = {
        names[int(name.removeprefix("made/image"))]: row.reshape(PIXEL_SIDE, PIXEL_SIDE)
        for name, row in zip(ids, rows, strict=True)
    }

    assert got["grey"].min() == pytest.approx(-100 / 255, abs=0.02)
    assert got["grey"].max() == pytest.approx(0, abs=1e-6)
    assert not got["grey"][:12].any()  # 10 × 40 becomes 8 × 32 in the middle
    assert not got["grey"][20:].any()
    np.testing.assert_allclose(got["deep"], got["grey"], atol=1e-6)
    np.testing.assert_allclose(got["colour"], got["grey"], atol=1e-6)
    np.testing.assert_allclose(got["tinted"], got["grey"] / 3, atol=1e-6)  # the other two are background
    assert got["tall"].max() == pytest.approx(100 / 255, abs=0.02)
    assert not got["tall"][:, :14].any()  # 64 × 8 becomes 32 × 4
    assert not got["tall"][:, 18:].any()
    assert not got["flat"].any()
    assert not got["dot"].any()


def test_as_a_contender(dataset):
    contender = Pixels()
    found = contender(dataset, 3)
    assert (found.shape, found.dtype) == ((1, contender.facts.width), np.float32)
    np.testing.assert_array_equal(found, pixel_features(dataset, 3))
    assert contender.flops(dataset.sizes(0)) == 0
    assert contender.facts.parameters == 0
