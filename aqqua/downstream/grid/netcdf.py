"""A map as CF-NetCDF: abundance, carbon and diversity with their uncertainty and the number of samples.

Conventions: CF-1.8; taxa after its section 6.1.2 (biological_taxon_name, biological_taxon_lsid); standard
errors by the modifier `standard_error`, tied to what they are of by `ancillary_variables` (3.4). Cells
without a sample are missing, never zero. Test: tests/downstream/grid/test_netcdf.py (with
compliance-checker).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import aqqua
from aqqua.downstream.grid.axes import Axis, GridConfig
from aqqua.downstream.grid.cells import Estimate, Gridded, gridded
from aqqua.downstream.grid.sampled import read_samples
from aqqua.downstream.publish.packages import needed
from aqqua.store.new_file import new_file

WHO = "grid"
FILL = 9.969209968386869e36  # NetCDF's own default for doubles
ABUNDANCE = "number_concentration_of_biological_taxon_in_sea_water"
CARBON = "mass_concentration_of_biological_taxon_expressed_as_carbon_in_sea_water"
_WEIGHTED = "mean over the samples of the cell, each weighted by the volume of water it holds"
_BETWEEN = "by how much the samples of the cell differ; missing where there is one sample"
_WITHIN = {
    "abundance": "from the 95 % intervals of the samples, independent of each other",
    "carbon": "from the 95 % intervals of the samples, their errors added: the relations are shared by all",
}
_AXES: dict[str, dict[str, Any]] = {
    "time": {"standard_name": "time", "long_name": "time", "units": "days since 1970-01-01 00:00:00 UTC",
             "calendar": "standard", "axis": "T"},
    "depth": {"standard_name": "depth", "long_name": "depth below the surface", "units": "m",
              "positive": "down", "axis": "Z"},
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
}  # fmt: skip


@dataclass(frozen=True)
class MapAbout:
    """What people say of a map."""

    title: str = "Plankton from images"
    institution: str = "not stated"
    command: str = "not stated"


def write_grid(samples: Path, out: Path, config: GridConfig, about: MapAbout | None = None) -> Gridded:
    """Put a table of samples on a map.

    Args:
        samples: of aqqua samples.
        out: new file, .nc.
        config: its cells.
        about: kept in the file.

    Raises:
        ValueError: the table is wrong, no sample can be placed, or `out` exists.
        RuntimeError: netCDF4 is missing.
    """
    netcdf = needed("netCDF4", WHO)
    if out.suffix != ".nc":
        raise ValueError(f"{WHO}: the output must be named .nc, got {out}; rename it")
    found = gridded(read_samples(samples), config)
    with new_file(out, WHO) as partial, netcdf.Dataset(partial, "w", format="NETCDF4") as file:
        file.setncatts(_global(found, about or MapAbout()))
        for axis in found.axes:
            _write_axis(file, axis)
        _write_taxa(file, found)
        for name, attributes, values_G in variables(found):
            _write_map(file, found, name, attributes, values_G)
    return found


def _global(found: Gridded, about: MapAbout) -> dict[str, str]:
    facts = found.facts
    left = "; ".join(f"{count} samples {why}" for why, count in found.left_out.items()) or "none"
    return {
        "Conventions": "CF-1.8",
        "title": about.title,
        "institution": about.institution,
        "source": f"images of organisms classified by {facts.get('classifier_name', 'an unknown one')} "
        f"(model SHA-256 {facts.get('model_sha256', 'unknown')}, dataset SHA-256 "
        f"{facts.get('dataset_sha256', 'unknown')})",
        "history": f"{about.command} (aqqua {aqqua.__version__})",
        "references": f"carbon relations: {facts.get('relations', '[]')}",
        "comment": f"Cells without a sample are missing. Left out: {left}.",
    }


def _write_axis(file: Any, axis: Axis) -> None:
    file.createDimension(axis.name, len(axis))
    if "nv" not in file.dimensions:
        file.createDimension("nv", 2)
    variable = file.createVariable(axis.name, "f8", (axis.name,))
    variable.setncatts({**_AXES[axis.name], "bounds": f"{axis.name}_bnds"})
    variable[:] = axis.centres
    bounds = file.createVariable(f"{axis.name}_bnds", "f8", (axis.name, "nv"))
    bounds[:] = np.stack((axis.edges_C1[:-1], axis.edges_C1[1:]), axis=1)


def _write_taxa(file: Any, found: Gridded) -> None:
    file.createDimension("taxon", len(found.taxa))
    words = {
        "taxon_name": ({"standard_name": "biological_taxon_name", "long_name": "name of the taxon"}, "name"),
        "taxon_lsid": ({"standard_name": "biological_taxon_lsid",
                        "long_name": "Life Science Identifier in WoRMS, empty where there is none"}, "lsid"),
        "class_label": ({"long_name": "class of the classifier: a taxon and what of it is seen"}, "label"),
    }  # fmt: skip
    for name, (attributes, field) in words.items():
        variable = file.createVariable(name, str, ("taxon",))
        variable.setncatts(attributes)
        variable[:] = np.array([getattr(taxon, field) for taxon in found.taxa], object)


def variables(found: Gridded) -> Iterator[tuple[str, dict[str, str], np.ndarray]]:
    """Names, attributes and values of the maps, of cells or of cells and classes."""
    yield from _estimate(
        "abundance", found.abundance, "m-3", "abundance of {}", ABUNDANCE, "each living class"
    )
    yield from _estimate(
        "all_abundance", found.all_abundance, "m-3", "abundance of {}", None, "all living classes"
    )
    if found.has_carbon:
        yield from _estimate("carbon", found.carbon, "kg m-3", "carbon of {}", CARBON, "each living class")
        whose = "all living classes whose carbon is known"
        yield from _estimate("all_carbon", found.all_carbon, "kg m-3", "carbon of {}", None, whose)
        told = "share of the living individuals counted whose carbon is known"
        yield "carbon_known_share", {"units": "1", "long_name": told}, found.carbon_share_G
    yield from _diversity(found)
    counted = {"units": "1", "standard_name": "number_of_observations", "long_name": "number of samples"}
    yield "number_of_samples", counted, found.samples_G
    individuals = {"units": "1", "long_name": "number of images of living organisms"}
    yield "number_of_images", individuals, found.images_G
    yield "sampled_volume", {"units": "m3", "long_name": "volume of water sampled"}, found.volume_G


def _estimate(
    name: str, values: Estimate, units: str, title: str, standard: str | None, whose: str
) -> Iterator[tuple[str, dict[str, str], np.ndarray]]:
    parts = [f"{name}_standard_error_{kind}" for kind in ("between", "within")]
    about = {"units": units, "long_name": title.format(whose), "comment": _WEIGHTED}
    about["ancillary_variables"] = " ".join([*parts, "number_of_samples"])
    errors = {"units": units}
    if standard:
        about["standard_name"] = standard
        errors["standard_name"] = f"{standard} standard_error"
    yield name, about, values.mean
    kind = "carbon" if "carbon" in name else "abundance"
    for part, found, how in zip(
        parts, (values.between, values.within), (_BETWEEN, _WITHIN[kind]), strict=True
    ):
        text = f"standard error of the {about['long_name']}"
        yield part, {**errors, "long_name": text, "comment": how}, found


def _diversity(found: Gridded) -> Iterator[tuple[str, dict[str, str], np.ndarray]]:
    yield "shannon", {
        "units": "1", "long_name": "Shannon index of the living classes, of the mean of the cell (nats)",
        "ancillary_variables": "number_of_samples",
    }, found.shannon_G  # fmt: skip
    yield "shannon_of_samples", {
        "units": "1", "long_name": "Shannon index of the living classes, mean of the samples (nats)",
        "ancillary_variables": "shannon_of_samples_standard_error number_of_samples",
    }, found.shannon.mean  # fmt: skip
    yield "shannon_of_samples_standard_error", {
        "units": "1", "long_name": "standard error of the mean Shannon index of the samples",
        "comment": _BETWEEN,
    }, found.shannon.between  # fmt: skip
    yield "richness", {"units": "1", "long_name": "number of living classes seen",
                       "comment": "grows with the water that was looked at"}, found.richness_G  # fmt: skip


def _write_map(
    file: Any, found: Gridded, name: str, attributes: dict[str, str], values_G: np.ndarray
) -> None:
    """One variable; by class, one class in memory at a time."""
    axes = tuple(axis.name for axis in found.axes)
    by_class = values_G.ndim == 2
    variable = file.createVariable(
        name, "f8", ("taxon", *axes) if by_class else axes, fill_value=FILL, compression="zlib", complevel=4,
        chunksizes=(1, *found.shape) if by_class else found.shape,
    )  # fmt: skip
    variable.setncatts(attributes)
    if by_class:
        variable.coordinates = "taxon_name taxon_lsid class_label"
        for number in range(values_G.shape[1]):
            variable[number] = _filled(found.spread(values_G[:, number]))
    else:
        variable[:] = _filled(found.spread(values_G.astype(float)))


def _filled(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), FILL, values)
