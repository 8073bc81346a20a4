"""Means of the samples of each cell, with two uncertainties, kept apart because they mean different things.

The mean is weighted by the water each sample holds: all that was counted, over all water in which it was
looked for. *Between* is the standard error of that mean by how much the samples differ (Cochran 1977,
Sampling Techniques, ratio estimator): n/(n−1)·Σ V²(a − mean)² / (ΣV)². It holds the patchiness of the sea
and, of itself, the counting error too; with one sample it is unknown. *Within* is what each sample says of
its own
error: half of its 95 % interval over 1.96. For abundance these are independent between samples (squares are
added); the error of carbon is mostly its relation's, which all samples share (errors are added: an upper
bound).

Letters: S samples, C classes, G cells that hold a sample. Test: tests/downstream/grid/test_grid_cells.py.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from aqqua.downstream.grid.axes import Axis, GridConfig, depth_axis, map_axes, time_axis
from aqqua.downstream.grid.sampled import Sampled, Taxon
from aqqua.downstream.samples.diversity import richness, shannon

HALF_95 = 1.959964  # standard errors on either side in a 95 % interval
MOST_CELLS = 300_000_000  # of the grid, times a map for each class and OTHER_MAPS: 2.4 GB of doubles
OTHER_MAPS = 14  # of all classes together: see aqqua.downstream.grid.netcdf.variables


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard errors, NaN where unknown: one value per cell, or per cell and class."""

    mean: Float[np.ndarray, "G ..."]
    between: Float[np.ndarray, "G ..."]
    within: Float[np.ndarray, "G ..."]


@dataclass(frozen=True)
class Gridded:
    """Everything about the cells that hold a sample."""

    axes: tuple[Axis, ...]  # in the order time, depth, lat, lon; the first two may be absent
    place_G: Int[np.ndarray, " G"]  # number of the cell on the whole grid, last axis fastest
    taxa: tuple[Taxon, ...]
    abundance: Estimate  # [G, C] per m³
    carbon: Estimate  # [G, C] kg per m³
    all_abundance: Estimate  # [G]
    all_carbon: Estimate  # [G], of the classes whose carbon is known
    carbon_share_G: Float[np.ndarray, " G"]  # of the counted individuals that are in it
    shannon_G: Float[np.ndarray, " G"]  # of the cell's mean, nats
    shannon: Estimate  # [G] mean over its samples; within is unknown
    richness_G: Int[np.ndarray, " G"]
    samples_G: Int[np.ndarray, " G"]
    images_G: Float[np.ndarray, " G"]
    volume_G: Float[np.ndarray, " G"]  # m³
    has_carbon: bool
    left_out: dict[str, int]  # why samples are on no cell
    facts: dict[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(len(axis) for axis in self.axes)

    def spread(self, values_G: np.ndarray) -> Float[np.ndarray, "..."]:
        """Values of cells on the whole grid; NaN where no sample is."""
        whole = np.full(int(np.prod(self.shape)), np.nan)
        whole[self.place_G] = values_G
        return whole.reshape(self.shape)


def gridded(samples: Sampled, config: GridConfig) -> Gridded:
    """The cells of a grid.

    Raises:
        ValueError: no sample can be placed, the message says why; or the grid has more than MOST_CELLS.
    """
    axes, values = _axes(samples, config)
    _require_small(axes, len(samples.taxa))
    place_S, left_out = _place(axes, values, samples)
    kept = np.flatnonzero(place_S >= 0)
    if not len(kept):
        raise ValueError(
            f"grid: a sample must have place and volume and lie in the bounds, got {len(samples)} that do "
            f"not: "
            f"{left_out}; look at the metadata of the dataset"
        )
    place_G, cell_S = np.unique(place_S[kept], return_inverse=True)
    weights = _Weights(cell_S, samples.volume_S[kept], len(place_G))
    found = {name: values_SC[kept] for name, values_SC in samples.values.items()}
    return Gridded(
        axes, place_G, samples.taxa, left_out=left_out, facts=samples.facts, samples_G=weights.number_G,
        volume_G=weights.volume_G, has_carbon=not np.isnan(samples.values["carbon_SC"]).all(),
        **_measured(found, weights),
    )  # fmt: skip


@dataclass(frozen=True)
class _Weights:
    """Which cell each sample is in, and its water."""

    cell_S: Int[np.ndarray, " S"]
    volume_S: Float[np.ndarray, " S"]
    cells: int

    @property
    def number_G(self) -> Int[np.ndarray, " G"]:
        return np.bincount(self.cell_S, minlength=self.cells)

    @property
    def volume_G(self) -> Float[np.ndarray, " G"]:
        return np.bincount(self.cell_S, self.volume_S, self.cells)

    def sums(self, values_SX: np.ndarray) -> np.ndarray:
        """Sums over the samples of each cell."""
        total = np.zeros((self.cells, *values_SX.shape[1:]))
        np.add.at(total, self.cell_S, values_SX)
        return total

    def estimate(
        self, values: np.ndarray, low: np.ndarray | None, high: np.ndarray | None, shared: bool
    ) -> Estimate:
        """Mean and errors; `shared`: the errors of the samples are one and the same."""
        wide = (-1, *[1] * (values.ndim - 1))
        volume, total = self.volume_S.reshape(wide), self.volume_G.reshape(wide)
        mean = self.sums(values * volume) / total
        number = self.number_G.reshape(wide).astype(float)
        squares = self.sums((volume * (values - mean[self.cell_S])) ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            between = np.where(number > 1, np.sqrt(number / (number - 1) * squares) / total, np.nan)
        if low is None or high is None:
            return Estimate(mean, between, np.full_like(mean, np.nan))
        error = (high - low) / (2 * HALF_95) * volume
        within = self.sums(error) if shared else np.sqrt(self.sums(error**2))
        return Estimate(mean, between, within / total)


def _axes(samples: Sampled, config: GridConfig) -> tuple[tuple[Axis, ...], dict[str, np.ndarray]]:
    east_S = np.where(samples.lon_S == 180, 180.0, (samples.lon_S + 180) % 360 - 180)
    values = {"time": samples.day_S, "depth": samples.depth_S, "lat": samples.lat_S, "lon": east_S}
    found = (time_axis(config, samples.day_S), depth_axis(config, samples.depth_S), *map_axes(config))
    return tuple(axis for axis in found if axis is not None), values


def _require_small(axes: tuple[Axis, ...], classes: int) -> None:
    """The maps can be made in memory and read by people."""
    cells = math.prod(len(axis) for axis in axes) * (classes + OTHER_MAPS)
    if cells > MOST_CELLS:
        sides = " x ".join(f"{len(axis):,} {axis.name}" for axis in axes)
        raise ValueError(
            f"grid: a grid must have at most {MOST_CELLS:,} cells, got {cells:,} ({sides} x {classes} "
            f"classes and {OTHER_MAPS} other maps); raise cell_degrees, narrow lat and lon, or take fewer "
            "depth_edges_m or time 'year' or 'all'"
        )


def _place(
    axes: tuple[Axis, ...], values: dict[str, np.ndarray], samples: Sampled
) -> tuple[Int[np.ndarray, " S"], dict[str, int]]:
    """Number of the cell of each sample, or -1, and why."""
    place_S = np.zeros(len(samples), np.int64)
    why_S = np.full(len(samples), "", object)
    whole = ~np.isnan(samples.values["abundance_SC"]).any(axis=1) & (samples.volume_S > 0)
    why_S[~whole] = "without volume"
    for axis in axes:
        known_S = ~np.isnan(values[axis.name])
        cell_S = axis.places(values[axis.name])
        if len(axis) == 1 and axis.name in ("time", "depth"):
            cell_S = np.where(known_S, cell_S, 0)  # one span of everything also holds what is not known
            known_S = np.ones_like(known_S)
        why_S[(why_S == "") & ~known_S] = f"without {axis.name}"
        why_S[(why_S == "") & (cell_S < 0)] = f"outside in {axis.name}"
        place_S = place_S * len(axis) + np.maximum(cell_S, 0)
    place_S[why_S != ""] = -1
    reasons, counts = np.unique(why_S[why_S != ""].astype(str), return_counts=True)
    return place_S, dict(zip(reasons.tolist(), counts.tolist(), strict=True))


def _measured(found: dict[str, np.ndarray], weights: _Weights) -> dict[str, Any]:
    abundance_SC, images_SC = found["abundance_SC"], found["images_SC"]
    low_SC, high_SC = (found[f"abundance_{side}_SC"] for side in ("low", "high"))
    abundance = weights.estimate(abundance_SC, low_SC, high_SC, shared=False)
    deviation_S = np.sqrt((((high_SC - low_SC) / 2) ** 2).sum(axis=1))
    total_S = abundance_SC.sum(axis=1)
    each_S = shannon(abundance_SC)
    seen = _Weights(weights.cell_S, np.where(np.isnan(each_S), 0.0, 1.0), weights.cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_shannon = _plain_mean(np.nan_to_num(each_S), seen)
    return {
        "abundance": abundance,
        "all_abundance": weights.estimate(
            total_S, total_S - deviation_S, total_S + deviation_S, shared=False
        ),
        "shannon_G": shannon(abundance.mean),
        "shannon": mean_shannon,
        "richness_G": richness(abundance.mean),
        "images_G": weights.sums(images_SC.sum(axis=1)),
        **_carbon(found, weights),
    }


def _carbon(found: dict[str, np.ndarray], weights: _Weights) -> dict[str, Any]:
    """Carbon by class, and of all whose carbon is known."""
    carbon_SC = np.where((found["images_SC"] == 0) & np.isnan(found["carbon_SC"]), 0.0, found["carbon_SC"])
    low_SC, high_SC = (_or_mean(found[f"carbon_{side}_SC"], carbon_SC, found) for side in ("low", "high"))
    known_SC = ~np.isnan(carbon_SC)
    mean_S, low_S, high_S = (
        np.where(known_SC, values, 0.0).sum(axis=1) for values in (carbon_SC, low_SC, high_SC)
    )
    individuals = [weights.sums(part.sum(axis=1)) for part in (
        np.where(known_SC, found["images_SC"], 0.0), found["images_SC"])]  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        share_G = np.where(
            individuals[1] > 0, individuals[0] / individuals[1], np.where(individuals[1] == 0, 1.0, 0)
        )
    told = weights.estimate(mean_S, low_S, high_S, shared=True)
    nothing = share_G == 0  # not a class of it has carbon: unknown, not zero
    all_carbon = Estimate(*(np.where(nothing, np.nan, one) for one in (told.mean, told.between, told.within)))
    return {
        "carbon": weights.estimate(carbon_SC, low_SC, high_SC, shared=True),
        "all_carbon": all_carbon,
        "carbon_share_G": share_G,
    }


def _or_mean(bound_SC: np.ndarray, carbon_SC: np.ndarray, found: dict[str, np.ndarray]) -> np.ndarray:
    """A bound; where the class was not seen and has none, the value itself: 0."""
    return np.where((found["images_SC"] == 0) & np.isnan(bound_SC), carbon_SC, bound_SC)


def _plain_mean(values_S: np.ndarray, seen: _Weights) -> Estimate:
    """Mean over the samples in which anything was seen, each counting once."""
    number_G = seen.volume_G
    mean_G = np.where(number_G > 0, seen.sums(values_S * seen.volume_S) / number_G, np.nan)
    squares_G = seen.sums(seen.volume_S * (values_S - np.nan_to_num(mean_G)[seen.cell_S]) ** 2)
    between_G = np.where(number_G > 1, np.sqrt(squares_G / (number_G - 1) / number_G), np.nan)
    return Estimate(mean_G, between_G, np.full_like(mean_G, np.nan))
