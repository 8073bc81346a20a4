"""Cells of a grid: edges, months, layers, and what makes no grid."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.downstream.grid.axes import Axis, GridConfig, depth_axis, map_axes, time_axis


@given(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from([0.5, 1.0, 2.5, 10.0]))
def test_every_point_is_in_its_cell(lat, lon, degrees):
    for axis, value in zip(map_axes(GridConfig(cell_degrees=degrees)), (lat, lon), strict=True):
        (cell,) = axis.places(np.array([value]))
        assert axis.edges_C1[cell] <= value <= axis.edges_C1[cell + 1]


def test_outside_and_unknown_are_nowhere():
    axis = Axis("depth", np.array([0.0, 10.0, 50.0]))
    assert axis.places(np.array([-1, 0, 9.9, 10, 50, 50.1, np.nan])).tolist() == [-1, 0, 0, 1, 1, -1, -1]


def days(*moments):
    return np.array([datetime(*moment, tzinfo=UTC).timestamp() / 86400 for moment in moments])


def test_months_and_years():
    day_S = days((2019, 11, 30), (2020, 2, 1))
    months = time_axis(GridConfig(time="month"), day_S)
    assert (
        months.edges_C1.tolist()
        == days((2019, 11, 1), (2019, 12, 1), (2020, 1, 1), (2020, 2, 1), (2020, 3, 1)).tolist()
    )
    assert months.places(day_S).tolist() == [0, 3]
    years = time_axis(GridConfig(time="year"), day_S)
    assert years.edges_C1.tolist() == days((2019, 1, 1), (2020, 1, 1), (2021, 1, 1)).tolist()
    assert len(time_axis(GridConfig(), day_S)) == 1
    assert time_axis(GridConfig(), np.array([np.nan])) is None


def test_layers():
    assert depth_axis(GridConfig(depth_edges_m=(0, 10, 100)), np.array([5.0])).edges_C1.tolist() == [
        0,
        10,
        100,
    ]
    assert depth_axis(GridConfig(), np.array([5.0, np.nan, 7])).edges_C1.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell_degrees": 7}, "cell_degrees must divide lat"),
        ({"lat": (10, -10)}, "lat must grow within"),
        ({"lon": (0, 200)}, "lon must grow within"),
        ({"depth_edges_m": (0,)}, "depth_edges_m must be at least two"),
        ({"depth_edges_m": (5, 5)}, "depth_edges_m must be at least two"),
    ],
)
def test_what_makes_no_grid(values, message):
    with pytest.raises(ValueError, match=message):
        GridConfig(**values)
