"""Maps as NetCDF: what is in them, and that they are CF."""

import numpy as np
import pytest

from aqqua.downstream.grid.axes import GridConfig
from aqqua.downstream.grid.netcdf import ABUNDANCE, CARBON, MapAbout, write_grid

netcdf = pytest.importorskip("netCDF4")
CONFIGS = {
    "one map": GridConfig(cell_degrees=10),
    "months and layers": GridConfig(cell_degrees=10, time="month", depth_edges_m=(0, 20, 100)),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def written(request, samples, tmp_path):
    about = MapAbout("A map", "An institute", "aqqua grid samples.parquet")
    return write_grid(samples, tmp_path / "map.nc", request.param, about), tmp_path / "map.nc"


def test_values_lie_where_they_belong(written):
    found, path = written
    with netcdf.Dataset(path) as file:
        names = tuple(axis.name for axis in found.axes)
        assert file["abundance"].dimensions == ("taxon", *names)
        assert file["all_carbon"].dimensions == names
        for number in range(len(found.taxa)):
            want = found.spread(found.abundance.mean[:, number])
            np.testing.assert_array_equal(file["abundance"][number].filled(np.nan), want)
        for name, values in (("all_carbon", found.all_carbon.mean), ("number_of_samples", found.samples_G)):
            np.testing.assert_array_equal(file[name][:].filled(np.nan), found.spread(values))
        cells = int(np.prod(found.shape))
        assert file["all_abundance"][:].mask.sum() == cells - len(found.place_G)  # missing, not zero
        assert file["lat"][:].tolist() == list(range(-85, 90, 10))
        assert file["lat_bnds"][0].tolist() == [-90, -80]


def test_taxa_after_cf_6_1_2(written):
    _, path = written
    with netcdf.Dataset(path) as file:
        assert file["abundance"].standard_name == ABUNDANCE
        assert (file["carbon"].standard_name, file["carbon"].units) == (CARBON, "kg m-3")
        assert file["taxon_name"].standard_name == "biological_taxon_name"
        assert file["taxon_name"][:].tolist() == ["Calanoida", "Copepoda"]
        assert file["class_label"][:].tolist() == ["Calanoida", "Copepoda (egg)"]
        assert file["taxon_lsid"][:].tolist() == [
            f"urn:lsid:marinespecies.org:taxname:{n}" for n in (1100, 1080)
        ]
        assert set(file["abundance"].coordinates.split()) == {"taxon_name", "taxon_lsid", "class_label"}
        for name in file["abundance"].ancillary_variables.split():
            assert name in file.variables


def test_layers_and_months(samples, tmp_path):
    found = write_grid(samples, tmp_path / "map.nc", CONFIGS["months and layers"])
    assert found.shape == (8, 2, 18, 36)  # June 2020 to January 2021
    assert found.left_out == {"without lat": 1, "without volume": 1, "without time": 1}
    with netcdf.Dataset(tmp_path / "map.nc") as file:
        assert file["time"].units == "days since 1970-01-01 00:00:00 UTC"
        assert file["number_of_samples"][0, 0, 15, 20] == 2
        assert file["number_of_samples"][7, 1, 15, 20] == 1


def test_the_compliance_checker_passes(written, tmp_path):
    runner = pytest.importorskip("compliance_checker.runner")
    _, path = written
    runner.CheckSuite.load_all_available_checkers()
    passed, errors = runner.ComplianceChecker.run_checker(
        ds_loc=str(path), checker_names=["cf:1.8"], verbose=0, criteria="strict",
        output_filename=str(tmp_path / "report.txt"), output_format="text",
    )  # fmt: skip
    assert passed, (tmp_path / "report.txt").read_text()
    assert not errors


def test_refusals(samples, tmp_path):
    with pytest.raises(ValueError, match=r"must be named \.nc"):
        write_grid(samples, tmp_path / "map.txt", GridConfig())
    (tmp_path / "map.nc").write_text("")
    with pytest.raises(ValueError, match="must not exist yet"):
        write_grid(samples, tmp_path / "map.nc", GridConfig(cell_degrees=10))
