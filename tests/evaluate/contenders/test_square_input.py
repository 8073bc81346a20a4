"""An image as a square: proportions kept, the rest its background, normalised as the model wants."""

import numpy as np
import pytest
from drawn_images import make_dataset

from aqqua.evaluate.contenders.square_input import SquareInput

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Pictures by name -> (block, row)."""
    grey = np.full((10, 40), 200, np.uint8)
    grey[:, 18:22] = 100
    colour = np.stack([grey, np.full_like(grey, 90), np.full_like(grey, 7)], axis=2)
    arrays = {"grey": grey, "tall": grey.T.copy(), "deep": grey.astype("<u2") * 257, "colour": colour,
              "dot": np.full((1, 1), 51, np.uint8)}  # fmt: skip
    made = make_dataset(tmp_path_factory.mktemp("square") / "d", list(arrays.values()))
    ids = made.table(["image_id"])["image_id"].to_pylist()
    rows = {name: ids.index(f"made/image{i:03}") for i, name in enumerate(arrays)}
    return made.block(0), rows


def test_padded_with_the_background(shown):
    block, rows = shown
    got = SquareInput(20, **PLAIN)(block, rows["grey"])
    assert (got.shape, got.dtype) == ((3, 20, 20), np.float32)
    np.testing.assert_allclose(got[0], got[2])
    np.testing.assert_allclose(got[0, :7], 200 / 255, atol=1e-6)  # 10 × 40 becomes 5 × 20 in the middle
    np.testing.assert_allclose(got[0, 12:], 200 / 255, atol=1e-6)
    assert got[0, 7:12, 10].max() < 0.5
    np.testing.assert_allclose(SquareInput(20, **PLAIN)(block, rows["tall"])[1], got[1].T, atol=1e-6)
    np.testing.assert_allclose(SquareInput(20, **PLAIN)(block, rows["deep"]), got, atol=1e-5)


def test_stretched_when_asked(shown):
    block, rows = shown
    got = SquareInput(20, stretch=True, **PLAIN)(block, rows["grey"])
    assert got[0, :, 10].max() < 0.5  # the bar runs from top to bottom
    np.testing.assert_allclose(got[0, 0], got[0, 19], atol=1e-6)


def test_channels(shown):
    block, rows = shown
    got = SquareInput(40, **PLAIN)(block, rows["colour"])
    np.testing.assert_allclose(got[1], 90 / 255, atol=1e-5)
    np.testing.assert_allclose(got[2], 7 / 255, atol=1e-5)
    one = SquareInput(40, 1, (0.0,), (1.0,))(block, rows["colour"])
    np.testing.assert_allclose(one[0], got.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_normalised(shown, interpolation):
    block, rows = shown
    got = SquareInput(3, 3, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0), interpolation)(block, rows["dot"])
    np.testing.assert_allclose(got[:, 1, 1], [0.1, 0.0, -0.025], atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"interpolation": "cubic"}, {"size": 0}, {"channels": 1}, {"mean": (0.5,)}, {"std": ()}]
)
def test_what_cannot_be(wrong):
    with pytest.raises(ValueError, match="square input"):
        SquareInput(**{"size": 8, **wrong})


def test_words():
    assert (
        SquareInput(224).words
        == "224 × 224 px, 3 channels, padded with its background, not stretched, bicubic"
    )
    assert "stretched, bilinear" in SquareInput(8, interpolation="bilinear", stretch=True).words
