"""The samples table as arrays: S samples of C living classes.

Test: tests/downstream/grid/test_grid_cells.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from aqqua.downstream.class_list import classes_from_json
from aqqua.downstream.predictions import CLASSES_KEY, PREFIX

WHO = "grid"
LSID = "urn:lsid:marinespecies.org:taxname:"
LITRES_PER_M3, MG_PER_KG = 1e3, 1e6
_PLACE = ("sample", "instrument", "time", "lat", "lon", "depth_m", "volume_l")
_CLASS = ("class", "aphia_id", "living")
_VALUES = {  # our name -> column and the factor to SI
    "images_SC": ("images", 1.0),
    "abundance_SC": ("abundance_per_m3", 1.0),
    "abundance_low_SC": ("abundance_low_per_m3", 1.0),
    "abundance_high_SC": ("abundance_high_per_m3", 1.0),
    "carbon_SC": ("carbon_mg_per_m3", 1 / MG_PER_KG),
    "carbon_low_SC": ("carbon_low_mg_per_m3", 1 / MG_PER_KG),
    "carbon_high_SC": ("carbon_high_mg_per_m3", 1 / MG_PER_KG),
}


@dataclass(frozen=True)
class Taxon:
    """A living class on the map."""

    label: str  # of the class
    name: str  # of the taxon
    lsid: str  # '' where it has no AphiaID


@dataclass(frozen=True)
class Sampled:
    """Samples with their classes; unknown is NaN. Concentrations are per m³, carbon is in kg."""

    taxa: tuple[Taxon, ...]
    day_S: Float[np.ndarray, " S"]  # since 1970
    lat_S: Float[np.ndarray, " S"]
    lon_S: Float[np.ndarray, " S"]
    depth_S: Float[np.ndarray, " S"]
    volume_S: Float[np.ndarray, " S"]  # m³
    values: dict[str, Float[np.ndarray, "S C"]]
    facts: dict[str, str]

    def __len__(self) -> int:
        return len(self.lat_S)


def read_samples(path: Path) -> Sampled:
    """Living classes of a table of samples.

    Raises:
        ValueError: it is no such table, or a row of it makes no sense; the message names the row.
    """
    try:
        table = pq.read_table(path, columns=[*_PLACE, *_CLASS, *(name for name, _ in _VALUES.values())])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ValueError(
            f"{WHO}: the table must be one of aqqua samples, got {path} without its columns; make it by "
            "aqqua samples"
        ) from error
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    alive = np.flatnonzero(np.array(table["living"].to_pylist(), bool))
    if not len(alive):
        raise ValueError(f"{WHO}: samples must hold a living class, got none in {path}; classify organisms")
    sample_R, first_S = _numbered(table.select(["instrument", "sample"]))
    taxa, class_R = _taxa(table, alive, metadata)
    place = table.take(pa.array(first_S))
    shape = (len(first_S), len(taxa))
    rows = np.stack((sample_R[alive], class_R[alive]))
    _require_once(rows, shape, alive)
    values = {
        name: _spread(table[column], alive, rows, shape, column) * factor
        for name, (column, factor) in _VALUES.items()
    }
    return Sampled(
        taxa,
        _days(place["time"]),
        _floats(place["lat"]),
        _floats(place["lon"]),
        _floats(place["depth_m"]),
        _floats(place["volume_l"]) / LITRES_PER_M3,
        values,
        {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)},
    )


def _numbered(names: pa.Table) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " S"]]:
    """Number of the sample of each row, in order of appearance, and each sample's first row."""
    known: dict[tuple[str, ...], int] = {}
    first: list[int] = []
    number_R = np.empty(len(names), np.int64)
    for row, key in enumerate(zip(*(names[name].to_pylist() for name in names.schema.names), strict=True)):
        if key not in known:
            known[key] = len(known)
            first.append(row)
        number_R[row] = known[key]
    return number_R, np.array(first, np.int64)


def _taxa(
    table: pa.Table, alive: np.ndarray, metadata: dict[str, str]
) -> tuple[tuple[Taxon, ...], Int[np.ndarray, " R"]]:
    named = {}
    if CLASSES_KEY in metadata:
        named = {one.name: one.taxon for one in classes_from_json(metadata[CLASSES_KEY], f"{WHO}: samples")}
    known: dict[str, int] = {}
    taxa: list[Taxon] = []
    class_R = np.full(len(table), -1)
    labels, ids = table["class"].to_pylist(), table["aphia_id"].to_pylist()
    for row in alive.tolist():
        label = labels[row]
        if label not in known:
            known[label] = len(taxa)
            taxa.append(Taxon(label, named.get(label) or label, f"{LSID}{ids[row]}" if ids[row] else ""))
        class_R[row] = known[label]
    return tuple(taxa), class_R


def _require_once(rows: np.ndarray, shape: tuple[int, int], alive: np.ndarray) -> None:
    codes = rows[0] * shape[1] + rows[1]
    order = np.argsort(codes, kind="stable")
    twice = np.flatnonzero(np.diff(codes[order]) == 0)
    if len(twice):
        at = alive[order[twice[0] : twice[0] + 2]] + 1
        raise ValueError(
            f"{WHO}: a class must be once in a sample, got rows {at[0]} and {at[1]} of the same; make the "
            f"table anew"
        )


def _spread(
    column: pa.ChunkedArray, alive: np.ndarray, rows: np.ndarray, shape: tuple[int, int], name: str
) -> Float[np.ndarray, "S C"]:
    """A column as samples x classes. A class that has no row in a sample is unknown there, not zero."""
    values_R = _floats(column)[alive]
    wrong = np.flatnonzero(np.isinf(values_R) | (values_R < 0))
    if len(wrong):
        raise ValueError(
            f"{WHO}: {name} must be 0 or above, got {values_R[wrong[0]]} in row {alive[wrong[0]] + 1}; "
            "make the table anew"
        )
    spread_SC = np.full(shape, np.nan)
    spread_SC[rows[0], rows[1]] = values_R
    return spread_SC


def _floats(column: pa.ChunkedArray) -> Float[np.ndarray, " S"]:
    found: Any = column.cast(pa.float64()).to_numpy()
    return np.where(np.isnan(found), np.nan, found)


def _days(column: pa.ChunkedArray) -> Float[np.ndarray, " S"]:
    known = np.array(column.is_valid())
    ms = column.cast(pa.int64()).fill_null(0).to_numpy()
    return np.where(known, ms / 86_400_000.0, np.nan)
