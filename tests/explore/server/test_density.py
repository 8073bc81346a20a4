"""Density: cells hold the points that lie in them, and their colour; a lasso holds what is inside it."""

import numpy as np
import pytest

from aqqua.explore.server.columns import NAMES, Values
from aqqua.explore.server.density import Colour, cell_about, density, inside, window_of

X, Y = np.array([-0.9, -0.9, 0.9, 5.0], np.float32), np.array([0.9, 0.9, -0.9, 0.0], np.float32)
ALL = (-1.0, 1.0, -1.0, 1.0)


def test_points_are_where_they_belong():
    shade, code = density(X, Y, None, ALL, 20, 10)
    assert np.argwhere(shade).tolist() == [[0, 1], [9, 19]]
    assert shade[0, 1] == 255  # two points are more than one
    assert 0 < shade[9, 19] < 255
    assert not code.any()
    some = density(X, Y, np.array([2]), ALL, 20, 10)[0]
    assert np.argwhere(some).tolist() == [[9, 19]]


def test_cells_get_finer_in_a_smaller_window():
    x, y = np.array([0.1, 0.101], np.float32), np.zeros(2, np.float32)
    assert np.count_nonzero(density(x, y, None, ALL, 100, 100)[0]) == 1
    assert np.count_nonzero(density(x, y, None, (0.1, 0.102, -0.001, 0.001), 100, 100)[0]) == 2


def test_a_cell_has_the_colour_of_the_commonest_name():
    values = Values(NAMES, np.array([0, 1, 1, 0, 2, -1], np.int32), ("a", "b", "c"))
    x = np.array([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5], np.float32)
    y = np.zeros(6, np.float32)
    colour = Colour.of_names(values, ["b"])  # b has the colour 0, others 1, unknown 2
    shade, code = density(x, y, None, ALL, 2, 1, colour)
    assert code.tolist() == [[0, 1]]
    assert shade.tolist() == [[255, 255]]
    assert density(x, y, np.array([0, 5]), ALL, 2, 1, colour)[1].tolist() == [[1, 2]]  # of what filters keep


def test_the_colour_of_a_cell_is_of_the_name_that_hovering_tells():
    random = np.random.default_rng(0)
    names = Values(NAMES, random.integers(-1, 6, 400).astype(np.int32), tuple("abcdef"))
    x, y = (random.uniform(-1, 1, 400).astype(np.float32) for _ in range(2))
    code = density(x, y, None, ALL, 8, 8, Colour.of_names(names, ["d", "a"]))[1]
    assert len(np.unique(code)) >= 3
    for line, column in np.ndindex(8, 8):
        cell = (column / 4 - 1, column / 4 - 0.75, 0.75 - line / 4, 1 - line / 4)
        told = cell_about(x, y, None, cell, names)
        wanted = 3 if told.get("name") is None else {"d": 0, "a": 1}.get(told["name"], 2)
        assert told["count"] == 0 or code[line, column] == wanted


def test_one_known_name_colours_a_cell_of_unknown_ones():
    names = Values(NAMES, np.array([-1, -1, 1, 0, 0, 1], np.int32), ("a", "b"))
    colour, zero = Colour.of_names(names, ["b"]), np.zeros(3, np.float32)
    assert density(zero, zero, np.arange(3), ALL, 1, 1, colour)[1].tolist() == [[0]]
    six = np.zeros(6, np.float32)
    assert density(six, six, None, ALL, 1, 1, colour)[1].tolist() == [[1]]  # as common: the first
    assert density(zero[:2], zero[:2], np.arange(2), ALL, 1, 1, colour)[1].tolist() == [[2]]


def test_a_cell_has_the_colour_of_the_mean():
    values = Values("numbers", np.array([0, 10, np.nan, np.nan], np.float32))
    x, y = np.array([-0.5, -0.5, -0.5, 0.5], np.float32), np.zeros(4, np.float32)
    assert density(x, y, None, ALL, 2, 1, Colour.of_numbers(values, 0, 10, 11))[1].tolist() == [[5, 11]]
    assert density(x, y, None, ALL, 2, 1, Colour.of_numbers(values, 2, 4, 11))[1].tolist() == [[5, 11]]


def test_what_is_in_a_cell():
    x, y = np.array([0, 0, 0, 0, 0.5], np.float32), np.zeros(5, np.float32)
    names = Values(NAMES, np.array([0, 1, 1, -1, 0], np.int32), ("a", "b"))
    cell = (-0.1, 0.5, -0.1, 0.0)
    assert cell_about(x, y, None, cell, names) == {"count": 4, "row": 1, "name": "b", "share": 0.5}
    assert cell_about(x, y, np.array([0, 3, 4]), cell, names) == {
        "count": 2,
        "row": 0,
        "name": "a",
        "share": 0.5,
    }
    assert cell_about(x, y, np.array([3]), cell, names) == {"count": 1, "row": 3, "name": None, "share": None}
    numbers = Values("numbers", np.array([1, 2, np.nan, 6, 9], np.float32))
    assert cell_about(x, y, None, cell, numbers) == {"count": 4, "row": 0, "mean": 3.0}
    assert cell_about(x, y, np.array([2]), cell, numbers) == {"count": 1, "row": 2, "mean": None}
    assert cell_about(x, y, None, cell, None) == {"count": 4, "row": 0}
    assert cell_about(x, y, None, (0.6, 0.7, 0, 1), None) == {"count": 0}


def test_wrong_colours_are_refused():
    values = Values(NAMES, np.zeros(1, np.int32), ("a",))
    for names in ("a", [1], ["a"] * 251):
        with pytest.raises(ValueError, match="at most 250 names"):
            Colour.of_names(values, names)
    for low, high, steps in ((1, 1, 9), (0, np.nan, 9), (0, np.inf, 9), (0, 1, 1), (0, 1, 251)):
        with pytest.raises(ValueError, match="a scale must have low < high"):
            Colour.of_numbers(values, low, high, steps)


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
    with pytest.raises(ValueError, match="1 to 2048 cells"):
        density(nothing, nothing, None, (-1, 1, -1, 1), 5000, 10)
    with pytest.raises(ValueError, match="3 to 2000 corners"):
        inside(nothing, nothing, [(0, 0), (1, 1)])
