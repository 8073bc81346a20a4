"""Means and uncertainties of cells, against numbers worked out by hand."""

import numpy as np
import pytest
from made_published import sample_rows, write_samples

from aqqua.downstream.grid import cells
from aqqua.downstream.grid.axes import GridConfig
from aqqua.downstream.grid.cells import HALF_95, OTHER_MAPS, gridded
from aqqua.downstream.grid.sampled import read_samples


@pytest.fixture(scope="module")
def found(samples):
    return gridded(read_samples(samples), GridConfig(cell_degrees=10))


def cell_of(found, lat, lon):
    """Place in found of the cell that holds a point, in cells of 10 degrees."""
    number = int((lat + 90) // 10) * 36 + int((lon + 180) // 10)
    return found.place_G.tolist().index(number)


def test_volume_weighted_means(found):
    at = cell_of(found, 60.2, 20.3)  # samples a, b, c: 5, 1 and 2 litres
    assert [taxon.label for taxon in found.taxa] == [
        "Calanoida",
        "Copepoda (egg)",
    ]  # detritus is not on the map
    np.testing.assert_allclose(found.abundance.mean[at], [4 / 0.008, 2 / 0.008])
    np.testing.assert_allclose(found.all_abundance.mean[at], 6 / 0.008)
    np.testing.assert_allclose(found.carbon.mean[at], [1e-8 * 4 / 0.008, 1e-8 * 2 / 0.008])
    np.testing.assert_allclose(found.all_carbon.mean[at], 1e-8 * 6 / 0.008)
    assert (found.samples_G[at], found.images_G[at], found.richness_G[at]) == (3, 6, 2)
    assert found.volume_G[at] == pytest.approx(0.008)


def test_standard_error_between_samples(found):
    at = cell_of(found, 60.2, 20.3)
    volume, seen = np.array([5, 1, 2]) / 1000, np.array([600.0, 1000.0, 0.0])  # Calanoida per m³
    mean = (volume * seen).sum() / volume.sum()
    want = np.sqrt(3 / 2 * ((volume * (seen - mean)) ** 2).sum()) / volume.sum()
    assert found.abundance.between[at, 0] == pytest.approx(want)
    assert np.isnan(found.abundance.between[cell_of(found, -33.5, -70.2)]).all()  # one sample


def test_standard_error_within_samples(found):
    at = cell_of(found, 60.2, 20.3)
    volume, seen = np.array([5, 1, 2]) / 1000, np.array([600.0, 1000.0, 0.0])
    error = seen / (2 * HALF_95)  # the interval is 0.5 to 1.5 of the value
    want = np.sqrt(((volume * error) ** 2).sum()) / volume.sum()
    assert found.abundance.within[at, 0] == pytest.approx(want)
    shared = (volume * 1e-8 * seen * 1.5 / (2 * HALF_95)).sum() / volume.sum()  # 0.5 to 2 of the value, added
    assert found.carbon.within[at, 0] == pytest.approx(shared)


def test_diversity(found):
    at = cell_of(found, 60.2, 20.3)
    share = np.array([4, 2]) / 6
    assert found.shannon_G[at] == pytest.approx(-(share * np.log(share)).sum())
    each = [-(0.6 * np.log(0.6) + 0.4 * np.log(0.4)), 0.0]  # of a and b; c holds nothing alive
    assert found.shannon.mean[at] == pytest.approx(np.mean(each))
    assert found.shannon.between[at] == pytest.approx(np.std(each, ddof=1) / np.sqrt(2))


def test_nothing_alive_is_zero_and_no_sample_is_missing(found):
    alone = cell_of(found, -33.5, -70.2)
    assert found.all_abundance.mean[alone] == found.all_carbon.mean[alone] == found.richness_G[alone] == 0
    assert np.isnan(found.shannon_G[alone])
    whole = found.spread(found.all_abundance.mean)
    assert whole.shape == (1, 1, 18, 36)
    assert np.isfinite(whole).sum() == 3


def test_what_is_left_out_is_counted(found):
    assert found.left_out == {"without lat": 1, "without volume": 1}
    assert found.samples_G.sum() == 5


def test_edges_belong_to_the_map(found):
    assert found.place_G[-1] == 17 * 36 + 35  # lat 90, lon 180: the last cell
    assert found.samples_G[-1] == 1


def test_more_cells_than_anyone_can_use_are_refused(samples, monkeypatch):
    told = rf"at most 300,000,000 cells, got {18000 * 36000 * (2 + OTHER_MAPS):,} \(.*36,000 lon x 2 classes"
    with pytest.raises(ValueError, match=told + ".*raise cell_degrees"):
        gridded(read_samples(samples), GridConfig(cell_degrees=0.01))
    monkeypatch.setattr(cells, "MOST_CELLS", 18 * 36 * (2 + OTHER_MAPS))  # the limit itself is allowed
    assert gridded(read_samples(samples), GridConfig(cell_degrees=10)).shape == (1, 1, 18, 36)
    monkeypatch.setattr(cells, "MOST_CELLS", 18 * 36 * (2 + OTHER_MAPS) - 1)
    with pytest.raises(ValueError, match=r"1 time x 1 depth x 18 lat x 36 lon x 2 classes"):
        gridded(read_samples(samples), GridConfig(cell_degrees=10))


def test_unknown_carbon_is_not_zero(tmp_path):
    rows = sample_rows("a", (3, 2, 0)) + sample_rows("b", (1, 0, 0))
    for row in rows:
        if row["class"] == "Copepoda (egg)":
            row |= {name: None for name in row if name.startswith("carbon")}
    found = gridded(read_samples(write_samples(tmp_path / "s.parquet", rows)), GridConfig())
    assert np.isnan(found.carbon.mean[0, 1])
    assert np.isfinite(found.carbon.mean[0, 0])
    assert found.all_carbon.mean[0] == pytest.approx(found.carbon.mean[0, 0])
    assert found.carbon_share_G[0] == pytest.approx(4 / 6)


def test_bad_tables_name_their_row(tmp_path):
    rows = sample_rows("a", (3, 2, 0))
    rows[1]["abundance_per_m3"] = -1.0
    with pytest.raises(ValueError, match=r"abundance_per_m3 must be 0 or above, got -1.0 in row 2"):
        read_samples(write_samples(tmp_path / "a.parquet", rows))
    twice = sample_rows("a", (3, 2, 0)) + sample_rows("a", (3, 2, 0))
    with pytest.raises(ValueError, match="once in a sample, got rows 1 and 4"):
        read_samples(write_samples(tmp_path / "b.parquet", twice))
    nowhere = write_samples(tmp_path / "c.parquet", sample_rows("a", (1, 1, 1), lat=None))
    with pytest.raises(ValueError, match=r"must have place and volume .*'without lat': 1"):
        gridded(read_samples(nowhere), GridConfig())
    (tmp_path / "d.parquet").write_text("no")
    with pytest.raises(ValueError, match="must be one of aqqua samples"):
        read_samples(tmp_path / "d.parquet")
