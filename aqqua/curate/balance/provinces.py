"""Provinces of the ocean: a grid of latitude and longitude, or polygons such as Longhurst's.

Longhurst's biogeographical provinces are published by the Flanders Marine Institute (VLIZ) on
marineregions.org, as a shapefile and by its WFS as GeoJSON (layer MarineRegions:longhurst, EPSG:4326;
property `provcode`, four letters such as NADR). They are not shipped: the user gives the GeoJSON.
Polygons are drawn once on a fine grid by counting the edges west of each cell's middle (even-odd rule), so
that an image costs one look-up. A point nearer to a border than half a cell may fall on its other side.
Test: tests/curate/balance/test_provinces.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

CELL_DEGREES = 0.1  # of the grid that polygons are drawn on: 3,600 × 1,800 cells, 13 MB
UNKNOWN = "unknown"
_NOWHERE = "elsewhere"  # a known place in none of the polygons: land, or a gap


class Grid:
    """Cells of equal degrees; all around a pole they are one, since there longitude says little."""

    def __init__(self, degrees: float) -> None:
        """
        Args:
            degrees: side of a cell, a divisor of 180.
        """
        self.degrees, self.rows, self.columns = degrees, round(180 / degrees), round(360 / degrees)
        self.names: tuple[str, ...] = (
            UNKNOWN,
            *(self._name(cell) for cell in range(self.rows * self.columns)),
        )

    def codes(
        self, lat_I: Float64[np.ndarray, " I"], lon_I: Float64[np.ndarray, " I"]
    ) -> Int64[np.ndarray, " I"]:
        """Which of `names` each place lies in; 0 where a coordinate is unknown (NaN)."""
        known_I = np.isfinite(lat_I) & np.isfinite(lon_I)
        row_I, column_I = _cell(lat_I, lon_I, self.rows, self.columns)
        polar_I = (row_I == 0) | (row_I == self.rows - 1)
        return np.where(known_I, 1 + row_I * self.columns + np.where(polar_I, 0, column_I), 0)

    def _name(self, cell: int) -> str:
        row, column = divmod(cell, self.columns)
        south, west = row * self.degrees - 90, column * self.degrees - 180
        if row in (0, self.rows - 1):
            return f"{south:g} to {south + self.degrees:g} N"
        return f"{south:g} to {south + self.degrees:g} N, {west:g} to {west + self.degrees:g} E"


class Polygons:
    """Named areas of a GeoJSON file, in degrees; where some overlap, the first counts."""

    def __init__(self, path: Path, name_property: str) -> None:
        """
        Args:
            path: a GeoJSON FeatureCollection of Polygons and MultiPolygons; cut at the date line (RFC 7946).
            name_property: of a feature; several may share a name.

        Raises:
            ValueError: the file is none of that.
        """
        self.rows, self.columns = round(180 / CELL_DEGREES), round(360 / CELL_DEGREES)
        codes_RC = np.zeros((self.rows, self.columns), np.int16)
        names: dict[str, int] = {}
        for name, rings in _features(path, name_property):
            code = names.setdefault(name, 2 + len(names))
            codes_RC[self._inside(rings) & (codes_RC == 0)] = code
        self.names: tuple[str, ...] = (UNKNOWN, _NOWHERE, *names)
        self._codes_RC = np.where(codes_RC == 0, np.int16(1), codes_RC)

    def codes(
        self, lat_I: Float64[np.ndarray, " I"], lon_I: Float64[np.ndarray, " I"]
    ) -> Int64[np.ndarray, " I"]:
        """Which of `names` each place lies in; 0 where a coordinate is unknown (NaN)."""
        known_I = np.isfinite(lat_I) & np.isfinite(lon_I)
        row_I, column_I = _cell(lat_I, lon_I, self.rows, self.columns)
        return np.where(known_I, self._codes_RC[row_I, column_I].astype(np.int64), 0)

    def _inside(self, rings: list[np.ndarray]) -> np.ndarray:
        """Cells whose middle is inside: an odd number of edges crosses their row west of it."""
        starts = np.concatenate([ring[:-1] for ring in rings])
        ends = np.concatenate([ring[1:] for ring in rings])
        corner = np.array([180.0, 90.0])
        # In cells from the south-west corner; the middle of row r is at r.
        (x1, y1), (x2, y2) = (((xy + corner) / CELL_DEGREES - 0.5).T for xy in (starts, ends))
        low, high = np.ceil(np.minimum(y1, y2)).astype(int), np.ceil(np.maximum(y1, y2)).astype(int)
        low, high = low.clip(0, self.rows), high.clip(0, self.rows)
        crossed = high - low  # rows whose middle lies in [lower end, upper end)
        edge = np.repeat(np.arange(len(x1)), crossed)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + low[edge]
        x = x1[edge] + (row - y1[edge]) / (y2 - y1)[edge] * (x2 - x1)[edge]
        east = np.ceil(x).astype(int).clip(0, self.columns)  # first cell whose middle is not west of it
        count = np.zeros((self.rows, self.columns + 1), np.int32)
        np.add.at(count, (row, east), 1)
        return count[:, :-1].cumsum(axis=1) % 2 == 1


def _cell(
    lat_I: np.ndarray, lon_I: np.ndarray, rows: int, columns: int
) -> tuple[Int64[np.ndarray, " I"], Int64[np.ndarray, " I"]]:
    """Row from the south and column from 180° W; the north pole is in the last row, 180° E is 180° W."""
    row_I = np.floor((np.nan_to_num(lat_I) + 90) / 180 * rows).astype(np.int64).clip(0, rows - 1)
    column_I = np.floor((np.nan_to_num(lon_I) + 180) / 360 * columns).astype(np.int64) % columns
    return row_I, column_I


def _features(path: Path, name_property: str) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name and rings, each of (longitude, latitude) with its first point again at its end."""
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        for feature in features:
            yield str(feature["properties"][name_property]), _rings(feature["geometry"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"strata: {path} must be a GeoJSON FeatureCollection of polygons in degrees whose features have "
            f"the property {name_property}, got {type(error).__name__} {error}; correct the file, or set "
            "province_name"
        ) from error


def _rings(geometry: dict[str, Any]) -> list[np.ndarray]:
    if geometry["type"] not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a geometry {geometry['type']}")
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    rings = [np.array([point[:2] for point in ring], np.float64) for one in polygons for ring in one]
    for ring in rings:
        if ring.ndim != 2 or len(ring) < 4 or not (np.abs(ring) <= (180.001, 90.001)).all():
            raise ValueError(f"a ring of shape {ring.shape} with degrees up to {np.abs(ring).max(initial=0)}")
        if not np.array_equal(ring[0], ring[-1]):
            raise ValueError("a ring that is not closed")
    return rings
