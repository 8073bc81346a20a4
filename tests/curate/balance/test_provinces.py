"""Provinces: a grid with poles and a date line, and polygons of a file."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.curate.balance.provinces import Grid, Polygons

SQUARE = [[-10, 40], [10, 40], [10, 60], [-10, 60], [-10, 40]]
HOLE = [[-2, 48], [2, 48], [2, 52], [-2, 52], [-2, 48]]
NAN = float("nan")


def names(provinces: Grid | Polygons, *places: tuple[float, float]) -> list[str]:
    lat, lon = np.array(places, np.float64).T
    return [provinces.names[code] for code in provinces.codes(lat, lon)]


def write(path: Path, **geometries: object) -> Path:
    features = [
        {"type": "Feature", "properties": {"provcode": name}, "geometry": geometry}
        for name, geometry in geometries.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def polygon(*rings: list[list[float]]) -> dict[str, object]:
    return {"type": "Polygon", "coordinates": list(rings)}


def test_the_date_line_is_one_place():
    grid = Grid(10)
    assert len(set(names(grid, (5, 180), (5, -180), (5, -179.9), (5, -170.001)))) == 1
    assert len(set(names(grid, (5, 179.9), (5, -179.9)))) == 2
    assert names(grid, (5, 179.9)) == ["0 to 10 N, 170 to 180 E"]


def test_around_a_pole_longitude_says_nothing():
    grid = Grid(10)
    assert set(names(grid, (90, 0), (90, 123), (85, -60), (80, 7))) == {"80 to 90 N"}
    assert set(names(grid, (-90, 0), (-80.1, 170))) == {"-90 to -80 N"}
    assert len(set(names(grid, (79, 0), (79, 123)))) == 2


def test_an_unknown_place_is_unknown():
    assert names(Grid(30), (NAN, 5), (5, NAN), (NAN, NAN)) == ["unknown"] * 3


@given(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from([7.5, 15, 60, 90]))
def test_every_place_is_in_the_cell_of_its_name(lat, lon, degrees):
    (name,) = names(Grid(degrees), (lat, lon))
    south, _, north, *rest = name.replace(",", "").split()
    assert float(south) <= lat + 1e-9
    assert lat <= float(north) + 1e-9
    if len(rest) > 1:
        west, east = float(rest[1]), float(rest[3])
        assert west - 1e-9 <= lon <= east + 1e-9 or (lon > 180 - 1e-9 and west == -180)


def test_polygons_have_holes_and_names(tmp_path):
    other = {"type": "MultiPolygon", "coordinates": [[[[170, -5], [180, -5], [180, 5], [170, -5]]], [HOLE]]}
    provinces = Polygons(write(tmp_path / "p.json", RING=polygon(SQUARE, HOLE), TWO=other), "provcode")
    places = [(45, 0), (50, 0), (50, 9.9), (-3, 178), (0, 0), (NAN, 0), (39.9, 0), (59.9, -9.9)]
    want = ["RING", "TWO", "RING", "TWO", "elsewhere", "unknown", "elsewhere", "RING"]
    assert names(provinces, *places) == want


def test_polygons_agree_with_a_plain_test_of_points(tmp_path):
    draw = np.random.default_rng(0)
    angle = np.sort(draw.uniform(0, 2 * np.pi, 30))
    radius = draw.uniform(10, 40, 30)
    ring = np.column_stack([20 + radius * np.cos(angle), -10 + radius * np.sin(angle)])
    ring = np.vstack([ring, ring[:1]])
    provinces = Polygons(write(tmp_path / "p.json", STAR=polygon(ring.tolist())), "provcode")
    lon, lat = draw.uniform(-30, 70, 4000), draw.uniform(-60, 40, 4000)
    inside = np.zeros(4000, bool)
    for (x1, y1), (x2, y2) in pairwise(ring):
        crosses = (y1 > lat) != (y2 > lat)
        inside ^= crosses & (lon < x1 + (lat - y1) / (y2 - y1) * (x2 - x1))
    got = provinces.codes(lat, lon) == provinces.names.index("STAR")
    assert 0.1 < inside.mean() < 0.9
    assert (got != inside).mean() < 0.01  # a cell's middle speaks for the cell


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [0, 0]},
        polygon([[0, 0], [1, 1]]),
        polygon([[0, 0], [200, 0], [200, 10], [0, 0]]),
        polygon([[0, 0], [20, 0], [20, 10], [0, 5]]),
        {"type": "Polygon"},
    ],
)
def test_what_is_no_polygon_in_degrees_is_refused(tmp_path, geometry):
    with pytest.raises(ValueError, match="must be a GeoJSON FeatureCollection of polygons"):
        Polygons(write(tmp_path / "p.json", BAD=geometry), "provcode")
    with pytest.raises(ValueError, match="the property code"):
        Polygons(write(tmp_path / "q.json", GOOD=polygon(SQUARE)), "code")
