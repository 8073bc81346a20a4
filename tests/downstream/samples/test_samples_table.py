"""Samples: concentrations by hand, intervals, zeros, and what is refused."""

from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_tables import CLASSES, WHEN, certain, image, predictions, size, sizes
from scipy.stats import chi2

from aqqua.downstream.carbon.monte_carlo import Uncertainty
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.carbon.table import open_carbon, write_carbon
from aqqua.downstream.class_list import classes_from_json
from aqqua.downstream.samples import gather
from aqqua.downstream.samples.table import SampleSettings, open_samples, poisson_interval, write_samples

SURE = Uncertainty(draws=200, size_sd=0.0, relation_log10_sd=0.0)


def samples(tmp_path, images, numbers, volumes=None, settings=None, scores=None, uncertainty=SURE):
    found = predictions(tmp_path / "p.parquet", images, certain(numbers) if scores is None else scores)
    measured = weighed = None
    if volumes is not None:
        rows = [size(row, volume) for row, volume in zip(images, volumes, strict=True)]
        measured = sizes(tmp_path / "s.parquet", rows)
        write_carbon(found, measured, tmp_path / "c.parquet", CarbonSettings(uncertainty=uncertainty))
        weighed = open_carbon(tmp_path / "c.parquet")
    counts = write_samples(found, tmp_path / "o.parquet", measured, weighed, settings, "aqqua grid")
    rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
    return counts, {(row["sample"], row["class"]): row for row in rows}


def test_concentrations_by_hand(tmp_path):
    """Two litres: 3 diatoms of 5000 µm³ and a dinoflagellate of 1000 µm³."""
    images = [image(i, volume_l=2.0) for i in range(4)]
    counts, rows = samples(tmp_path, images, [0, 0, 0, 1], [5000, 5000, 5000, 1000])
    assert (counts.images, counts.samples, counts.left_out) == (4, 1, {})
    diatom, dino = rows["s1", "Thalassiosira"], rows["s1", "Tripos"]
    assert diatom["images"] == 3
    assert diatom["abundance_per_m3"] == pytest.approx(1500)
    assert diatom["biovolume_mm3_per_m3"] == pytest.approx(3 * 5000e-9 * 500)
    assert diatom["carbon_mg_per_m3"] == pytest.approx(3 * 211.735e-9 * 500, rel=5e-6)
    assert dino["carbon_mg_per_m3"] == pytest.approx(217.678e-9 * 500, rel=5e-6)
    assert diatom["aphia_id"] == 148912
    assert diatom["living"]
    assert not rows["s1", "detritus"]["living"]


def test_zeros_are_written_out(tmp_path):
    _, rows = samples(tmp_path, [image(0), image(1, sample="s2")], [0, 1], [1e3, 1e3])
    assert len(rows) == 2 * len(CLASSES)
    none = rows["s2", "Thalassiosira"]
    assert none["images"] == none["abundance_per_m3"] == none["abundance_low_per_m3"] == 0
    assert none["abundance_high_per_m3"] == pytest.approx(-np.log(0.025) * 1000 / 0.005)
    assert none["biovolume_mm3_per_m3"] == none["carbon_mg_per_m3"] == none["carbon_low_mg_per_m3"] == 0
    assert none["carbon_high_mg_per_m3"] is None


@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_counting_error_is_garwoods(count):
    low, high = poisson_interval(count)
    assert low == pytest.approx(chi2.ppf(0.025, 2 * count) / 2 if count else 0.0)
    assert high == pytest.approx(chi2.ppf(0.975, 2 * count + 2) / 2)


def test_sure_classes_have_the_exact_interval(tmp_path):
    _, rows = samples(tmp_path, [image(i, volume_l=1000.0) for i in range(6)], [0] * 6)
    low, high = poisson_interval(6)
    assert rows["s1", "Thalassiosira"]["abundance_low_per_m3"] == pytest.approx(low)
    assert rows["s1", "Thalassiosira"]["abundance_high_per_m3"] == pytest.approx(high)


def test_unsure_classes_widen_it(tmp_path):
    scores = np.tile([0.6, 0.4, 0, 0, 0], (50, 1))
    _, rows = samples(tmp_path, [image(i, volume_l=1000.0) for i in range(50)], [0] * 50, scores=scores)
    diatom, dino = rows["s1", "Thalassiosira"], rows["s1", "Tripos"]
    assert (diatom["images"], dino["images"]) == (50, 0)
    # 30 and 20 by the scores; binomial and Poisson variance add up to the mean.
    assert 15 < diatom["abundance_low_per_m3"] < 24
    assert 25 < dino["abundance_high_per_m3"] < 34
    # It holds what was counted too: 50 and none, which the scores alone would not.
    assert diatom["abundance_high_per_m3"] == diatom["abundance_per_m3"] == 50
    assert dino["abundance_low_per_m3"] == dino["abundance_per_m3"] == 0


def test_the_error_of_a_relation_does_not_average_out(tmp_path):
    images = [image(i) for i in range(400)]
    shared = Uncertainty(draws=200, size_sd=0.05, relation_log10_sd=0.15)
    _, rows = samples(tmp_path, images, [1] * 400, [1e3] * 400, uncertainty=shared)
    row = rows["s1", "Tripos"]
    ratio = row["carbon_high_mg_per_m3"] / row["carbon_low_mg_per_m3"]
    assert 10 ** (2 * 1.96 * 0.15) * 0.75 < ratio < 10 ** (2 * 1.96 * 0.15) * 1.5
    assert row["carbon_low_mg_per_m3"] < row["carbon_mg_per_m3"] < row["carbon_high_mg_per_m3"]


def test_what_is_not_known_is_null_unless_the_mean_stands_in(tmp_path):
    images = [image(i) for i in range(4)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    _, rows = samples(tmp_path / "a", images, [1, 1, 1, 2], [1e3, 1e3, None, 1e6])
    assert rows["s1", "Tripos"]["biovolume_mm3_per_m3"] is None
    assert rows["s1", "Tripos"]["carbon_mg_per_m3"] is rows["s1", "Tripos"]["carbon_high_mg_per_m3"] is None
    assert rows["s1", "Calanoida"]["carbon_mg_per_m3"] is None  # no verified relation
    assert rows["s1", "Calanoida"]["biovolume_mm3_per_m3"] > 0
    _, rows = samples(
        tmp_path / "b", images, [1, 1, 1, 2], [1e3, 1e3, None, 1e6], SampleSettings(fill_missing=True)
    )
    row = rows["s1", "Tripos"]
    assert row["biovolume_mm3_per_m3"] == pytest.approx(3 * 1e3 * 1e-9 / 0.005 * 1000)
    assert row["carbon_mg_per_m3"] == pytest.approx(3 * 217.678e-9 / 0.005 * 1000, rel=5e-6)
    assert row["carbon_low_mg_per_m3"] < row["carbon_mg_per_m3"] < row["carbon_high_mg_per_m3"]
    assert rows["s1", "Calanoida"]["carbon_mg_per_m3"] is None


def test_without_sizes_there_are_numbers_only(tmp_path):
    _, rows = samples(tmp_path, [image(0)], [0])
    row = rows["s1", "Thalassiosira"]
    assert row["abundance_per_m3"] == pytest.approx(200_000)
    assert row["biovolume_mm3_per_m3"] is row["carbon_mg_per_m3"] is None


def test_the_classes_travel_with_the_table(tmp_path):
    """Of all that the classifier knows, also those that no sample held: for names and AphiaIDs elsewhere."""
    samples(tmp_path, [image(0)], [0])
    told = pq.read_schema(tmp_path / "o.parquet").metadata[b"aqqua.classes"].decode()
    assert classes_from_json(told, "samples") == tuple(CLASSES)


def test_when_and_where(tmp_path):
    late, early = WHEN + timedelta(hours=2), WHEN - timedelta(hours=1)
    images = [
        image(0, time=None, lat=None, lon=None, depth_m=2.0),
        image(1, time=late, depth_m=4.0),
        image(2, time=early, depth_m=None),
        image(3, instrument="UVP6"),
    ]
    found = predictions(tmp_path / "p.parquet", images, certain([0] * 4))
    assert write_samples(found, tmp_path / "o.parquet").samples == 2
    rows = {
        (row["sample"], row["instrument"]): row for row in pq.read_table(tmp_path / "o.parquet").to_pylist()
    }
    row = rows["s1", "IFCB"]
    assert (row["time"], row["lat"], row["lon"], row["depth_m"]) == (early, 54.0, 8.0, 3.0)
    assert open_samples(tmp_path / "o.parquet").rows == 2 * len(CLASSES)


@pytest.mark.parametrize("missing", [None, 0.0, float("nan"), -1.0])
def test_refuses_a_sample_without_volume(tmp_path, missing):
    images = [image(0), image(1, sample="cast 7", volume_l=missing)]
    with pytest.raises(ValueError, match=r"volume above 0 .* for 'cast 7' in row 1 \(made/image00001\)"):
        samples(tmp_path, images, [0, 1])
    assert not (tmp_path / "o.parquet").exists()


def test_or_leaves_it_out_and_counts_it(tmp_path):
    images = [image(0), image(1, sample="cast 7", volume_l=None), image(2, sample="")]
    counts, rows = samples(
        tmp_path, images, [0, 0, 0], settings=SampleSettings(leave_out_without_volume=True)
    )
    assert counts.left_out == {"cast 7": 1, "(not named)": 1}
    assert {sample for sample, _ in rows} == {"s1"}
    assert rows["s1", "Thalassiosira"]["images"] == 1


def test_refuses_an_image_of_no_sample(tmp_path):
    with pytest.raises(ValueError, match=r"must belong to a sample, got none in row 0 \(made/image00000\)"):
        samples(tmp_path, [image(0, sample="")], [0])


def test_refuses_two_volumes_of_one_sample(tmp_path):
    images = [image(0, volume_l=0.005), image(1, volume_l=5.0)]
    with pytest.raises(ValueError, match=r"one volume, got 0.005 and 5 L for 's1' in row 1"):
        samples(tmp_path, images, [0, 0])


def test_refuses_nothing_but_samples_without_volume(tmp_path):
    images = [image(0, volume_l=None)]
    with pytest.raises(ValueError, match="a sample must have a volume, got none in 1 images"):
        samples(tmp_path, images, [0], settings=SampleSettings(leave_out_without_volume=True))


def test_refuses_carbon_without_sizes(tmp_path):
    samples(tmp_path, [image(0)], [0], [1e3])
    found = predictions(tmp_path / "q.parquet", [image(0)], certain([0]))
    with pytest.raises(ValueError, match="carbon must come with the sizes"):
        write_samples(found, tmp_path / "x.parquet", carbon=open_carbon(tmp_path / "c.parquet"))


def test_refuses_more_cells_than_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "MOST_CELLS", 1000)
    images = [image(i, sample=f"s{i}") for i in range(3)]
    with pytest.raises(ValueError, match=r"at most 1,000, got 3 x 5 x 200; lower the draws"):
        samples(tmp_path, images, [0, 0, 0])


def test_many_samples_in_one_go(tmp_path):
    """Room grows as samples come; every image lands in its own."""
    images = [image(i, sample=f"s{i % 70}") for i in range(210)]
    _, rows = samples(tmp_path, images, [i % 5 for i in range(210)])
    for i in range(70):
        wanted = np.bincount([j % 5 for j in range(210) if j % 70 == i], minlength=5)
        assert [rows[f"s{i}", one.name]["images"] for one in CLASSES] == wanted.tolist()
