"""Density: a picture's pixels are the cells with points; a lasso holds what is inside it."""

import io

import numpy as np
import pytest
from PIL import Image

from aqqua.explore.server.density import density_png, inside, window_of


def test_points_are_where_they_belong():
    x, y = np.array([-0.9, -0.9, 0.9, 5.0], np.float32), np.array([0.9, 0.9, -0.9, 0.0], np.float32)
    picture = np.asarray(Image.open(io.BytesIO(density_png(x, y, None, (-1, 1, -1, 1), 20, 10))))
    assert np.argwhere(picture[..., 3] > 0).tolist() == [[0, 1], [9, 19]]
    assert picture[0, 1, 3] > picture[9, 19, 3]  # two points are more than one
    some = np.asarray(Image.open(io.BytesIO(density_png(x, y, np.array([2]), (-1, 1, -1, 1), 20, 10))))
    assert np.argwhere(some[..., 3] > 0).tolist() == [[9, 19]]


def test_a_lasso_holds_what_is_inside():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 5000)).astype(np.float32)
    triangle = [(-0.5, -0.5), (0.5, -0.5), (0.0, 0.5)]
    right = (y > -0.5) & (y < 0.5 - 2 * np.abs(x.astype(float)))
    assert np.array_equal(inside(x, y, triangle), np.flatnonzero(right))


def test_wrong_windows_and_corners_are_refused():
    for values in (
        ["1", "0", "0", "1"],
        ["a", "1", "0", "1"],
        ["nan", "1", "0", "1"],
        ["-1e9", "1", "0", "1"],
    ):
        with pytest.raises(ValueError, match="a window must be"):
            window_of(values)
    nothing = np.zeros(0, np.float32)
    with pytest.raises(ValueError, match="1 to 2048 px"):
        density_png(nothing, nothing, None, (-1, 1, -1, 1), 5000, 10)
    with pytest.raises(ValueError, match="3 to 2000 corners"):
        inside(nothing, nothing, [(0, 0), (1, 1)])
