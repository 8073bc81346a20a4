"""Strata: which instrument took an image, where, how deep and in what season; and how much each may be seen.

A collection is what ships could do: one instrument, one coast, one summer can be most of it. The share of a
stratum of N images is made proportional to N^α: at α = 1 as they are, at 0 all alike.
Test: tests/curate/balance/test_strata.py.
"""

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field, field_validator

from aqqua.curate.balance.provinces import UNKNOWN, Grid, Polygons
from aqqua.curate.balance.waterfill import water_fill

STRATUM_COLUMNS = ("instrument", "lat", "lon", "depth_m", "time")  # of a dataset
Axis = Literal["instrument", "province", "depth", "season"]
_SEASONS = (UNKNOWN, "winter", "spring", "summer", "autumn")


class StrataConfig(BaseModel):
    """What sets two strata apart, and how far their shares are levelled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: tuple[Axis, ...] = Field(
        default=("instrument", "province", "depth", "season"),
        description="what sets two strata apart; an unknown value is a value of its own",
    )
    alpha: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="temperature: the share of a stratum of N images is as N^alpha; 1 leaves shares as they "
        "are, 0 makes them equal; 0.3 to 0.5 is usual",
    )
    grid_degrees: float = Field(
        default=15.0, ge=1, le=90, description="side of a province in degrees, a divisor of 180"
    )
    provinces: Path | None = Field(
        default=None,
        description="GeoJSON of provinces to use instead of a grid, such as Longhurst's of marineregions.org",
    )
    province_name: str = Field(
        default="provcode", description="property of a province's feature that names it"
    )
    depth_m: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(50.0, 200.0, 1000.0), description="depths in metres that part the bands, ascending"
    )

    @field_validator("grid_degrees")
    @classmethod
    def _divides(cls, degrees: float) -> float:
        if abs(180 / degrees - round(180 / degrees)) > 1e-9:
            raise ValueError(f"must divide 180, got {degrees}; 10, 15 or 20 do")
        return degrees

    @field_validator("depth_m")
    @classmethod
    def _ascends(cls, depths: tuple[float, ...]) -> tuple[float, ...]:
        if list(depths) != sorted(set(depths)):
            raise ValueError(f"must ascend, got {depths}; sort them")
        return depths


class Strata:
    """Names the stratum of each image by its columns alone, whatever block it is in."""

    def __init__(self, config: StrataConfig) -> None:
        self.config = config

    @cached_property
    def _provinces(self) -> Grid | Polygons:
        config = self.config
        if config.provinces is None:
            return Grid(config.grid_degrees)
        return Polygons(config.provinces, config.province_name)

    @cached_property
    def _bands(self) -> tuple[str, ...]:
        edges = (0.0, *self.config.depth_m)
        within = [f"{a:g} to {b:g} m" for a, b in pairwise(edges)]
        return (UNKNOWN, *within, f"below {edges[-1]:g} m")

    def of(self, table: pa.Table) -> pa.DictionaryArray:
        """The stratum of each row, its axes in the order of `by`, parted by " | ".

        Args:
            table: with STRATUM_COLUMNS.
        """
        axes = [self._axis(axis, table) for axis in self.config.by]
        code_I = np.zeros(len(table), np.int64)
        for codes, names in axes:
            code_I = code_I * len(names) + codes
        found, index_I = np.unique(code_I, return_inverse=True)
        return pa.DictionaryArray.from_arrays(
            index_I.astype(np.int32), pa.array([_text(int(code), axes) for code in found], pa.string())
        )

    def _axis(self, axis: Axis, table: pa.Table) -> tuple[Int64[np.ndarray, " I"], tuple[str, ...]]:
        """Codes, and the names they stand for."""
        if axis == "instrument":
            words = pc.dictionary_encode(table[axis].cast(pa.string()).combine_chunks())
            return words.indices.to_numpy().astype(np.int64), tuple(words.dictionary.to_pylist())
        lat_I = _floats(table, "lat")
        if axis == "province":
            return self._provinces.codes(lat_I, _floats(table, "lon")), self._provinces.names
        if axis == "depth":
            depth_I = _floats(table, "depth_m")
            band_I = 1 + np.searchsorted(np.array(self.config.depth_m), depth_I, side="right")
            return np.where(np.isfinite(depth_I), band_I, 0), self._bands
        month_I = pc.month(table["time"]).to_numpy().astype(np.float64)  # null becomes NaN
        return seasons(month_I, lat_I), _SEASONS


def seasons(month_I: Float64[np.ndarray, " I"], lat_I: Float64[np.ndarray, " I"]) -> Int64[np.ndarray, " I"]:
    """1 winter, 2 spring, 3 summer, 4 autumn of the hemisphere; 0 where month or latitude is unknown (NaN).

    Whole months: winter is December to February in the north (the equator included), June to August in the
    south.
    """
    known_I = np.isfinite(month_I) & np.isfinite(lat_I)
    north_I = np.nan_to_num(month_I).astype(np.int64) % 12 // 3
    return np.where(known_I, 1 + (north_I + np.where(np.nan_to_num(lat_I) < 0, 2, 0)) % 4, 0)


def temper(
    images_S: Float64[np.ndarray, " S"], room_S: Float64[np.ndarray, " S"], total: float, alpha: float
) -> Float64[np.ndarray, " S"]:
    """Uses of each stratum: as images^alpha, their sum `total`; what one has no room for goes to the others.

    Args:
        images_S: of each stratum; none gets none.
        room_S: the most uses it can take.
        total: to be dealt out; where there is not so much room, all are filled.
        alpha: 0 to 1.
    """
    demand_S = np.where(images_S > 0, np.maximum(images_S, 1e-300) ** alpha, 1.0)
    return water_fill(np.where(images_S > 0, room_S, 0.0), np.array([total]), None, demand_S)


def _floats(table: pa.Table, name: str) -> Float64[np.ndarray, " I"]:
    """A column as float64; unknown becomes NaN."""
    return table[name].to_numpy().astype(np.float64)


def _text(code: int, axes: list[tuple[np.ndarray, tuple[str, ...]]]) -> str:
    words: list[str] = []
    for _, names in reversed(axes):
        code, index = divmod(code, len(names))
        words.insert(0, names[index])
    return " | ".join(words)
