"""Where a sample lies on a grid of latitude, longitude, depth and time, and the edges of its cells.

Test: tests/downstream/grid/test_axes.py.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator

SECONDS_PER_DAY = 86_400.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class GridConfig(BaseModel):
    """The cells of a map. Defaults make one map of everything, in cells of one degree."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cell_degrees: float = Field(default=1.0, ge=0.01, le=90, description="side of a cell; divides the bounds")
    lat: tuple[float, float] = Field(default=(-90.0, 90.0), description="southern and northern edge, degrees")
    lon: tuple[float, float] = Field(default=(-180.0, 180.0), description="western and eastern edge, degrees")
    depth_edges_m: tuple[float, ...] = Field(
        default=(),
        description="edges of the layers, metres below the surface, growing; none: one layer of all",
    )
    time: Literal["all", "year", "month"] = Field(default="all", description="one map of all, or one of each")

    @model_validator(mode="after")
    def _check(self) -> "GridConfig":
        for name, (low, high), limit in (("lat", self.lat, 90.0), ("lon", self.lon, 180.0)):
            if not -limit <= low < high <= limit:
                raise ValueError(
                    f"{name} must grow within ±{limit:g} degrees, got {low:g} to {high:g}; correct it"
                )
            cells = (high - low) / self.cell_degrees
            if abs(cells - round(cells)) > 1e-6:
                raise ValueError(
                    f"cell_degrees must divide {name}, got {self.cell_degrees:g} for {low:g} to {high:g}; "
                    "choose bounds that are whole cells"
                )
        edges = self.depth_edges_m
        if edges and (len(edges) < 2 or any(a >= b for a, b in pairwise(edges))):
            raise ValueError(f"depth_edges_m must be at least two and grow, got {edges}; sort them")
        return self


@dataclass(frozen=True)
class Axis:
    """Cells along one direction; `edges` has one more than there are cells. Time is in days since 1970."""

    name: Literal["time", "depth", "lat", "lon"]
    edges_C1: Float[np.ndarray, " C1"]

    def __len__(self) -> int:
        return len(self.edges_C1) - 1

    @property
    def centres(self) -> Float[np.ndarray, " C"]:
        """Middle of each cell."""
        return (self.edges_C1[1:] + self.edges_C1[:-1]) / 2

    def places(self, values_S: Float[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
        """Cell of each value, -1 outside and where it is unknown. A value on an edge belongs to the cell
        above it;
        the last edge to the last cell."""
        cell_S = np.searchsorted(self.edges_C1, values_S, side="right") - 1
        cell_S[values_S == self.edges_C1[-1]] = len(self) - 1
        cell_S[np.isnan(values_S) | (cell_S >= len(self))] = -1
        return cell_S


def map_axes(config: GridConfig) -> tuple[Axis, Axis]:
    """Latitude and longitude."""
    edges = []
    for low, high in (config.lat, config.lon):
        edges.append(np.linspace(low, high, round((high - low) / config.cell_degrees) + 1))
    return Axis("lat", edges[0]), Axis("lon", edges[1])


def depth_axis(config: GridConfig, depth_S: Float[np.ndarray, " S"]) -> Axis | None:
    """The layers asked for; else one that holds all known depths; None if none is known."""
    if config.depth_edges_m:
        return Axis("depth", np.array(config.depth_edges_m))
    return _one("depth", depth_S)


def time_axis(config: GridConfig, day_S: Float[np.ndarray, " S"]) -> Axis | None:
    """Years or months from the first to the last known time, UTC; or one span; None if none is known."""
    if config.time == "all" or not np.isfinite(day_S).any():
        return _one("time", day_S)
    first, last = (_at(value) for value in (np.nanmin(day_S), np.nanmax(day_S)))
    step = 1 if config.time == "month" else 12
    start = first.year * 12 + (first.month - 1 if step == 1 else 0)
    end = last.year * 12 + (last.month - 1 if step == 1 else 0)
    months = range(start, end + step + 1, step)
    return Axis("time", np.array([_day(month) for month in months]))


def _one(name: Literal["time", "depth"], values_S: np.ndarray) -> Axis | None:
    known = values_S[np.isfinite(values_S)]
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    return Axis(name, np.array([low, high if high > low else low + 1e-3]))  # a cell has some width


def _at(day: float) -> datetime:
    return datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC)


def _day(month: int) -> float:
    """First day of a month that is counted from year 0, in days since 1970."""
    return (datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) - EPOCH).total_seconds() / SECONDS_PER_DAY
