"""The organism by threshold: the largest piece, holes filled, either polarity, noise left out."""

import numpy as np
import pytest
from drawn_images import make_dataset

from aqqua.evaluate.contenders.foreground import FLOOR, contrast_of, foreground


def scene(noise=0.0):
    contrast = np.random.default_rng(0).normal(scale=noise or 1e-9, size=(40, 50))
    body = np.zeros((40, 50), bool)
    body[10:30, 12:40] = True
    hole = np.zeros_like(body)
    hole[18:22, 20:25] = True
    contrast[body & ~hole] += 0.4
    contrast[2:5, 2:5] += 0.5  # a speck
    return contrast.astype(np.float32), body


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_largest_piece_filled(sign, noise):
    contrast, body = scene(noise)
    assert (foreground(sign * contrast) ^ body).sum() <= (0 if noise == 0 else 12)


def test_nothing_stands_out():
    draw = np.random.default_rng(0)
    assert not foreground(np.full((5, 7), FLOOR * 0.99, np.float32)).any()
    assert not foreground(draw.normal(scale=0.004, size=(30, 30)).astype(np.float32)).any()
    assert foreground(np.full((1, 1), 0.5, np.float32)).sum() <= 1


def test_contrast_of_any_depth_and_colour(tmp_path):
    grey = np.full((8, 9), 200, np.uint8)
    grey[3:5, 4:6] = 98
    colour = np.stack([grey, np.full_like(grey, 90), np.full_like(grey, 7)], axis=2)
    made = make_dataset(tmp_path / "d", [grey, grey.astype("<u2") * 257, colour])
    ids = made.table(["image_id"])["image_id"].to_pylist()
    block = made.block(0)
    got = {name: contrast_of(block, row) for row, name in enumerate(ids)}
    assert got["made/image000"].min() == pytest.approx(-0.4)
    np.testing.assert_allclose(got["made/image001"], got["made/image000"], atol=1e-6)
    np.testing.assert_allclose(got["made/image002"], got["made/image000"] / 3, atol=1e-6)
