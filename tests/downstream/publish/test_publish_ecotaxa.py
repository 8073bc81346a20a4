"""EcoTaxa zips: read back by pyecotaxa and by our own ingest, nothing is lost."""

import csv
import io
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_published import a_dataset, a_record, prediction_rows, write_predictions
from PIL import Image

from aqqua.downstream.publish.ecotaxa import Bounds, export_ecotaxa
from aqqua.downstream.publish.ecotaxa_columns import Shown, annotation, columns, escape_id, unescape_id
from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.store.read import Dataset


@dataclass(frozen=True)
class Deep:
    """Colour of 16 bits."""

    def load(self, _tree):
        return np.zeros((4, 5, 3), np.uint16)


FACTS_KEPT = ("instrument", "um_per_px", "sample", "group", "time", "lat", "lon", "depth_m", "volume_l")


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("ecotaxa") / "out"
    tables = {"predictions": made.predictions, "sizes": made.sizes, "carbon": made.carbon}
    return export_ecotaxa(made.dataset, out, **tables, bounds=Bounds(rows=15))


def by_id(dataset, names):
    rows, blocks = {}, (dataset.block_with(n, ("image_id", *names)) for n in range(dataset.blocks))
    for block, table in blocks:
        for i, row in enumerate(table.to_pylist()):
            rows[row["image_id"]] = (row, block.pixels(i))
    return rows


def original_ids(exported):
    """object_id -> image_id."""
    with (exported.path / "object_ids.csv").open(encoding="utf-8", newline="") as file:
        return dict(list(csv.reader(file))[1:])


def test_our_ingest_reads_it_back_whole(made, exported, tmp_path):
    zips = sorted(str(path) for path in exported.path.glob("*.zip"))
    report = ingest_paths(zips, tmp_path / "again", ReadOptions(), workers=1)
    assert report.quarantined == 0
    long_ids = original_ids(exported)
    before = by_id(made.dataset, (*FACTS_KEPT, "label", "label_status", "aphia_id", "licence"))
    predicted = {row["image_id"]: row for row in prediction_rows(made.dataset)}
    after = by_id(
        Dataset.open(tmp_path / "again"), (*FACTS_KEPT, "label", "label_status", "aphia_id", "licence")
    )
    assert len(after) == len(before) == exported.images
    for name, (row, pixels) in after.items():
        object_id = name.split("/", 1)[1]
        image_id = long_ids.get(object_id) or unescape_id(object_id)
        was, was_pixels = before[image_id]
        np.testing.assert_array_equal(pixels, was_pixels)
        assert pixels.dtype == was_pixels.dtype
        assert {key: row[key] for key in (*FACTS_KEPT, "licence")} == {
            key: was[key] for key in (*FACTS_KEPT, "licence")
        }
        if was["label_status"] in ("validated", "dubious"):
            assert [row[key] for key in ("label", "label_status")] == [was["label"], was["label_status"]]
            assert row["aphia_id"] == was["aphia_id"]
        else:
            machine = predicted[image_id]
            assert [row["label"], row["label_status"]] == [machine["class"], "predicted"]
            assert row["aphia_id"] == machine["aphia_id"]


def test_pyecotaxa_reads_it_back_whole(made, exported):
    archive = pytest.importorskip("pyecotaxa.archive")
    rows = {}
    for path in sorted(exported.path.glob("*.zip")):
        with archive.Archive(str(path)) as opened:
            opened.validate()
            for _, table in opened.iter_tsv():
                rows |= {row["object_id"]: row for row in table.to_dict("records")}
            for row in rows.values():
                if row["img_file_name"] in opened.members():
                    Image.open(io.BytesIO(opened.open(row["img_file_name"]).read())).load()
    assert len(rows) == made.dataset.rows
    long_ids = original_ids(exported)
    predicted = {row["image_id"]: row for row in prediction_rows(made.dataset)}
    images = by_id(made.dataset, ("label", "label_status", "um_per_px", "depth_m", "lat", "lon"))
    for object_id, row in rows.items():
        image_id = long_ids.get(object_id) or unescape_id(object_id)
        machine, (image, _) = predicted[image_id], images[image_id]
        assert np.float32(row["object_aqqua_score"]) == machine["score"]
        assert row["object_aqqua_class"] == machine["class"]
        assert row["object_aqqua_label"] == (image["label"] or "")
        assert row["object_aqqua_label_status"] == image["label_status"]
        assert (row["object_lat"], row["object_lon"]) == (image["lat"], image["lon"])
        for column, known in (("process_pixel", "um_per_px"), ("object_depth_min", "depth_m")):
            same = np.isnan(row[column]) if image[known] is None else np.float32(row[column]) == image[known]
            assert same, column
    sized = [row for row in rows.values() if row["object_aqqua_size_flag"]]
    assert len(sized) == made.dataset.rows // 2
    assert sum(np.isnan(row["object_aqqua_esd_um"]) for row in sized) == 1  # unknown is empty, never 0
    assert all(row["object_aqqua_carbon_pg"] >= 10 for row in rows.values())


def test_several_zips_each_of_its_own(exported):
    names = sorted(path.name for path in exported.path.iterdir())
    assert names == ["ecotaxa_0001.zip", "ecotaxa_0002.zip", "object_ids.csv"]
    assert exported.zips == 2
    assert exported.shortened_ids == 1
    for number, path in enumerate(sorted(exported.path.glob("*.zip")), start=1):
        with zipfile.ZipFile(path) as opened:
            assert opened.testzip() is None
            tables = [name for name in opened.namelist() if name.endswith(".tsv")]
            assert tables == [f"ecotaxa_{number:04d}.tsv"]
            text = opened.read(tables[0])
            assert text.startswith(b"\xef\xbb\xbfimg_file_name\t")  # EcoTaxa takes latin-1 otherwise
            assert text.decode("utf-8-sig").splitlines()[1].startswith("[t]\t[f]\t[t]")


def test_bytes_bound_a_zip(made, tmp_path):
    done = export_ecotaxa(made.dataset, tmp_path / "out", bounds=Bounds(bytes=4000))
    assert done.zips > 2
    assert done.images == made.dataset.rows


def test_the_same_input_makes_the_same_bytes(made, tmp_path):
    for name in ("a", "b"):
        export_ecotaxa(made.dataset, tmp_path / name, predictions=made.predictions)
    first, second = ((tmp_path / name / "ecotaxa_0001.zip").read_bytes() for name in ("a", "b"))
    assert first == second


def test_category_and_status_both_or_none(made, tmp_path):
    done = export_ecotaxa(made.dataset, tmp_path / "out")
    statuses = made.dataset.table(("label_status",))["label_status"].to_pylist()
    judged = [status for status in statuses if status in ("validated", "predicted", "dubious")]
    assert sum(done.by_status[status] for status in set(judged)) == len(judged)
    assert done.by_status[""] == len(statuses) - len(judged)
    trusted = export_ecotaxa(made.dataset, tmp_path / "trusted", trust_folders=True)
    assert trusted.by_status["validated"] == sum(s in ("validated", "folder") for s in statuses)


def test_category_ids_stand_beside_names(made, tmp_path):
    export_ecotaxa(made.dataset, tmp_path / "out", predictions=made.predictions, ids={"Calanoida": 45074})
    with zipfile.ZipFile(tmp_path / "out" / "ecotaxa_0001.zip") as opened:
        text = opened.read("ecotaxa_0001.tsv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))[1:]
    for row in rows:
        known = row["object_annotation_category"] == "Calanoida"
        assert row["object_annotation_category_id"] == ("45074" if known else "")


def test_limits_of_ecotaxa():
    found = columns(predicted=True, sized=True, weighed=True, ids={"a": 1}, trust_folders=False)
    names = [column.name for column in found]
    assert len(set(names)) == len(names)
    assert sum(c.kind == "t" and c.name.startswith("object_aqqua") for c in found) <= 20


@given(
    st.text(min_size=1, max_size=300).filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text))
)
def test_ids_are_reversible(image_id):
    escaped = escape_id(image_id)
    assert unescape_id(escaped) == image_id
    assert not any(sign in escaped for sign in "\t\r\n")
    assert escaped == escaped.strip(" ")


def test_refuses_a_text_that_breaks_the_table(tmp_path):
    dataset = a_dataset(tmp_path / "dataset", [a_record(0, sample="two\nlines")])
    with pytest.raises(ValueError, match=r"sample_id must be .* got '\\n' in it for image 'cruise/D2013"):
        export_ecotaxa(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_refuses_predictions_of_another_dataset(made, tmp_path):
    rows = prediction_rows(made.dataset)
    other = write_predictions(tmp_path / "p.parquet", rows, {"dataset_sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"must be predictions of .* got those of another dataset"):
        export_ecotaxa(made.dataset, tmp_path / "out", predictions=other)


def test_refuses_colour_of_16_bits(tmp_path):
    dataset = a_dataset(tmp_path / "dataset", [a_record(0, pixels=Deep())])
    with pytest.raises(ValueError, match="got 16-bit colour for image 'cruise/"):
        export_ecotaxa(dataset, tmp_path / "out")


def test_what_people_said_stays():
    machine = {"class": "Calanoida"}
    for status in ("validated", "dubious", "discarded", "predicted", "folder"):
        judged = status in ("validated", "dubious", "discarded")
        want = ("x", status) if judged else ("Calanoida", "predicted")
        assert annotation(Shown({"label": "x", "label_status": status}, machine), False) == want


def test_real_images_of_five_instruments_come_back(real_data, tmp_path):
    sources = (
        "ifcb/smhi-ifcb134",
        "ecotaxa/import_test",
        "uvp6/UVP6_example.zip",
        "zooscan/zqc",
        "planktonimager",
    )
    paths = [str(real_data / name) for name in sources]
    first = ingest_paths(paths, tmp_path / "first", ReadOptions(), workers=1)
    dataset = Dataset.open(first.path)
    done = export_ecotaxa(dataset, tmp_path / "out")
    zips = sorted(str(path) for path in done.path.glob("*.zip"))
    again = ingest_paths(zips, tmp_path / "again", ReadOptions(), workers=1)
    assert (again.accepted, again.quarantined) == (first.accepted, 0)
    before, after = by_id(dataset, FACTS_KEPT), by_id(Dataset.open(again.path), FACTS_KEPT)
    for name, (row, pixels) in after.items():
        was, was_pixels = before[unescape_id(name.split("/", 1)[1])]
        np.testing.assert_array_equal(pixels, was_pixels)
        assert {key: row[key] for key in FACTS_KEPT if key != "group"} == {
            key: was[key] for key in FACTS_KEPT if key != "group"
        }
