"""A dataset to a table of sizes: scale, calibration, what is unknown; and real images of two instruments."""

import csv
import gzip
import math
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_images import blob, make_dataset
from golden_ifcb import BIN, masks, summed

from aqqua.downstream.size.measure import (
    Calibration,
    Measured,
    calibrated_um_per_px,
    in_micrometres,
    measure,
)
from aqqua.downstream.size.segment import segment
from aqqua.downstream.size.table import COLUMNS, THRESHOLDS, SizeSettings, open_sizes, write_sizes
from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.spread import Engine
from aqqua.store.read import Dataset
from aqqua.store.schema import SAMPLES, SAMPLES_SCHEMA


def disc(radius=10, side=40):
    y, x = np.mgrid[:side, :side] - side / 2
    return np.where(y**2 + x**2 < radius**2, 60, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """33 drawn images in 3 blocks; every third without a scale."""
    return make_dataset(tmp_path_factory.mktemp("sizes") / "dataset", [blob(i) for i in range(33)])


def test_one_row_an_image_in_the_order_of_the_dataset(drawn, tmp_path):
    seen = []
    counts = write_sizes(drawn, tmp_path / "s.parquet", command="aqqua sizes x", progress=seen.append)
    sizes = open_sizes(tmp_path / "s.parquet")
    rows = [row for batch in sizes.batches() for row in batch.to_pylist()]
    assert [row["image_id"] for row in rows] == drawn.table(["image_id"])["image_id"].to_pylist()
    assert counts["images"] == sizes.rows == 33 == sum(n for flag, n in counts.items() if flag != "images")
    assert seen == [16, 32, 33]
    assert sizes.facts["dataset_sha256"] == drawn.manifest_sha256
    assert sizes.facts["command"] == "aqqua sizes x"


def test_two_workers_write_the_same_table(drawn, tmp_path):
    one = write_sizes(drawn, tmp_path / "1.parquet")
    assert write_sizes(drawn, tmp_path / "2.parquet", engine=Engine(workers=2)) == one
    assert pq.read_table(tmp_path / "2.parquet").equals(pq.read_table(tmp_path / "1.parquet"))


def test_unknown_is_null_and_says_why(drawn, tmp_path):
    write_sizes(drawn, tmp_path / "s.parquet")
    scale = dict(zip(*drawn.table(["image_id", "um_per_px"]).to_pydict().values(), strict=True))
    in_um = [name for name, *_ in COLUMNS if "_um" in name]
    for row in pq.read_table(tmp_path / "s.parquet").to_pylist():
        unknown = [row[name] for name in in_um if name != "um_per_px"]
        if row["area_px"] is None:
            assert row["flag"] == "nothing found"
            assert set(unknown) == {None}
        elif scale[row["image_id"]] is None:
            assert row["flag"] == "scale unknown"
            assert set(unknown) == {None}
            assert row["area_px"] > 0
        else:
            assert all(value > 0 and math.isfinite(value) for value in unknown)
            assert row["area_um2"] == pytest.approx(row["area_px"] * row["um_per_px"] ** 2)


def test_lengths_areas_and_volumes_scale_by_their_power():
    small, large = (in_micrometres(measure(disc()), scale) for scale in (1.0, 2.0))
    for name, value in small.items():
        power = {"um": 1, "um2": 2, "um3": 3}[name.rsplit("_", 1)[1]]
        assert large[name] == pytest.approx(value * 2**power)


def test_all_objects_add_up():
    two = np.concatenate([disc(), disc(5)], axis=1)
    one, small, both = measure(disc()), measure(disc(5)), measure(two, "all")
    assert both.area == one.area + small.area
    assert both.esd == pytest.approx(np.hypot(one.esd, small.esd))
    for name in ("perimeter", "sphere", "prolate", "moberg_sosik"):
        assert getattr(both, name) == pytest.approx(getattr(one, name) + getattr(small, name))
    assert (both.major, both.feret) == (one.major, one.feret)
    assert measure(two).area == one.area
    assert measure(two).flag == ""
    assert measure(np.concatenate([disc(), disc(9)], axis=1)).flag == "several objects"
    assert measure(disc()[18:]).flag == "touches border"


def test_the_calibrated_area_of_science():
    """UVP6: 100 px, Aa 2300 µm², Exp 1.136 is 0.430257 mm², ESD 0.740149 mm."""
    calibration = Calibration(2300.0, 1.136, 21)
    scale = calibrated_um_per_px(100, calibration)
    found = in_micrometres(Measured(area=100, esd=2 * np.sqrt(100 / np.pi)), scale)
    assert found["area_um2"] / 1e6 == pytest.approx(0.430257, abs=5e-7)
    assert found["esd_um"] / 1e3 == pytest.approx(0.740149, abs=5e-7)


def test_a_uvp_sample_is_calibrated_by_its_facts(tmp_path):
    """Pixels up to the sample's threshold are ground, and its Aa and Exp go before µm/px."""
    image = np.zeros((30, 30), np.uint8)
    image[10:20, 10:20] = 100
    image[10:20, 20:22] = 21
    dataset = make_dataset(tmp_path / "dataset", [image, image])
    facts = [("aa_um2", "2300"), ("exp", "1.136"), ("threshold", "21")]
    row = {"input": "made", "sample": "s", "instrument": "UVP6", "images": 2, "triggers": 2, "source": "x"}
    table = pa.Table.from_pylist([{**row, "facts": facts}], schema=SAMPLES_SCHEMA)
    pq.write_table(table, dataset.path / SAMPLES)
    write_sizes(dataset, tmp_path / "s.parquet")
    for found in pq.read_table(tmp_path / "s.parquet").to_pylist():
        assert found["area_px"] == 100
        assert found["threshold"] == 22
        assert found["method"] == "fixed threshold, Aa·px^Exp"
        assert found["area_um2"] == pytest.approx(2300 * 100**1.136)
        assert found["esd_um"] == pytest.approx(740.149, abs=5e-4)


def test_only_what_the_software_saw_gets_its_threshold(tmp_path):
    """make_dataset says that every second image is a UVP6's."""
    dark, grey = np.zeros((20, 20), np.uint8), np.full((20, 20), 120, np.uint8)
    for image in (dark, grey):
        image[8:12, 8:12] += 100
    dataset = make_dataset(tmp_path / "dataset", [dark, dark, grey, grey])
    write_sizes(dataset, tmp_path / "s.parquet", SizeSettings(thresholds={"UVP6": 40.0}))
    rows = {row["image_id"][-1]: row for row in pq.read_table(tmp_path / "s.parquet").to_pylist()}
    assert rows["1"]["threshold"] == 40
    assert [rows[i]["method"] for i in "0123"] == ["border noise", "fixed threshold", *["border noise"] * 2]


def test_refuses_an_old_output(drawn, tmp_path):
    (tmp_path / "s.parquet").touch()
    with pytest.raises(ValueError, match="must not exist yet"):
        write_sizes(drawn, tmp_path / "s.parquet")


def test_own_outlines_of_a_real_ifcb_bin(real_data, tmp_path):
    """Rows 1, 2 and 5 are one organism each. WHOI's outlines: edges by phase congruency, then eroded.

    Row 6 is a thin transparent rod of which theirs keeps two pieces; row 3 is stitched there.
    """
    ingest_paths(
        [str(real_data / "ifcb" / "ifcb-features-golden" / "data")], tmp_path / "d", ReadOptions(), workers=1
    )
    dataset = Dataset.open(tmp_path / "d")
    block, names = dataset.block(0), dataset.table(["image_id"])["image_id"].to_pylist()
    pixels = {int(name.rsplit("_", 1)[1]): block.pixels(i) for i, name in enumerate(names) if BIN in name}
    golden, wanted = masks(real_data), summed(real_data)
    for roi in (1, 2, 5):
        own = segment(pixels[roi], "all").mask_HW
        overlap = (own & golden[roi]).sum() / (own | golden[roi]).sum()
        assert overlap > 0.65, roi
        found = measure(pixels[roi], "all")
        assert 0.7 < found.area / wanted[roi]["summedArea"] < 1.4, roi
        assert 0.6 < found.moberg_sosik / wanted[roi]["summedBiovolume"] < 1.7, roi


def test_real_zooscan_images(real_data, tmp_path):
    """At ZooScan's threshold the area is ZooProcess' to the pixel; without it within 2 % at the median.

    ImageJ scales its axes to an ellipse of the same area as the object, IFCB and we do not.
    """
    source = real_data / "zooscan" / "ecotaxa_ml_template"
    native = {}
    for part in ("training", "test"):
        with gzip.open(source / f"{part}_features.csv.gz", "rt", newline="") as file:
            native |= {row["id"]: row for row in csv.DictReader(file)}
    ingest_paths([str(source / "images.zip")], tmp_path / "d", ReadOptions(), workers=1)
    dataset = Dataset.open(tmp_path / "d")
    names = dataset.table(["image_id"], blocks=[0])["image_id"].to_pylist()
    block, ratios = dataset.block(0), []
    for i in range(0, len(block), 4):
        wanted = {k: float(native[names[i].rsplit("/", 1)[1][:-4]][k]) for k in ("area", "major", "minor")}
        found = measure(block.pixels(i), threshold=THRESHOLDS["ZooScan"])
        assert found.area == wanted["area"]
        scale = math.sqrt(4 * found.area / (math.pi * found.major * found.minor))
        assert found.major * scale == pytest.approx(wanted["major"], rel=0.01)
        assert found.minor * scale == pytest.approx(wanted["minor"], rel=0.01)
        ratios.append(segment(block.pixels(i)).mask_HW.sum() / wanted["area"])
    assert len(ratios) == 100
    assert 0.96 < np.median(ratios) < 1.04
    assert np.quantile(ratios, 0.05) > 0.75


def test_tells_of_a_missing_package(drawn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(RuntimeError, match=r"sizes needs the package skimage, got none; pip install"):
        write_sizes(drawn, tmp_path / "s.parquet")
