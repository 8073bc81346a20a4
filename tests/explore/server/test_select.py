"""Selections: what is written is what was chosen."""

import csv
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aqqua.explore.server.select import Wanted, select
from aqqua.explore.server.selected_dataset import SelectedDataset
from aqqua.store.weights import SamplingWeights


def test_ids_by_rows_file_and_condition(asked, atlas_path, tmp_path):
    done = select(atlas_path, tmp_path / "a.csv", "ids", Wanted(rows=[5, 3, 5]))
    assert done.images == 2
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == ["img_0000003", "img_0000005"]
    done = select(atlas_path, tmp_path / "b.parquet", "ids", Wanted(ids=tmp_path / "a.csv"))
    table = pq.read_table(tmp_path / "b.parquet")
    assert table["image_id"].to_pylist() == ["img_0000003", "img_0000005"]
    assert table["key"].to_pylist() == asked.atlas.table(["key"])["key"].take([3, 5]).to_pylist()
    done = select(
        atlas_path, tmp_path / "c.parquet", "ids", Wanted(where="instrument = 'IFCB' AND novelty > 0.5")
    )
    assert done.images == len(asked.where("instrument = 'IFCB' AND novelty > 0.5")) > 10
    (tmp_path / "d.txt").write_text("img_0000009\n\nimg_0000001\n")
    select(atlas_path, tmp_path / "e.csv", "ids", Wanted(ids=tmp_path / "d.txt"))
    assert (tmp_path / "e.csv").read_text().split()[1].startswith("img_0000009")


def test_labels_are_proposed_beside_what_was(asked, atlas_path, tmp_path):
    select(atlas_path, tmp_path / "one.csv", "labels", Wanted(rows=[4, 8]), label=" Oithona ")
    with (tmp_path / "one.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    old = asked.atlas.table(["label", "class"]).take(pa.array([4, 8])).to_pylist()
    assert [(row["label"], row["was"] or None) for row in rows] == [("Oithona", one["label"]) for one in old]
    (tmp_path / "page.csv").write_text('image_id,label\n"img_0000008","a, ""b"""\n"img_0000002","c"\n')
    select(atlas_path, tmp_path / "two.parquet", "labels", Wanted(ids=tmp_path / "page.csv"))
    two = pq.read_table(tmp_path / "two.parquet")
    assert two["image_id"].to_pylist() == ["img_0000008", "img_0000002"]
    assert two["label"].to_pylist() == ['a, "b"', "c"]
    select(atlas_path, tmp_path / "three.csv", "labels", Wanted(rows=[4, 8]))  # the predicted class
    with (tmp_path / "three.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [one["class"] for one in old]


def test_weights_are_those_that_training_reads(curated_dataset, of_dataset, tmp_path):
    path, chosen = of_dataset
    select(path, tmp_path / "weights", "weights", Wanted(rows=range(7)), dataset=curated_dataset.path)
    weights = SamplingWeights.open(tmp_path / "weights", curated_dataset)
    assert weights.total == 7
    used = {
        int(key)
        for block in range(curated_dataset.blocks)
        for key, weight in zip(
            curated_dataset.sizes(block).key, weights.block(block, curated_dataset.sizes(block)), strict=True
        )
        if weight == 1
    }
    assert used == set(chosen["key"].to_pylist()[:7])


def test_chosen_images_are_read_as_they_are(curated_dataset, of_dataset):
    _, chosen = of_dataset
    keys = chosen["key"].to_numpy()[:9]
    part = SelectedDataset(curated_dataset, keys)
    seen = {}
    for number in range(part.blocks):
        block, table = part.block_with(number, ["image_id", "key"])
        assert len(block) == len(table)
        for i, key in enumerate(table["key"].to_pylist()):
            seen[key] = block.pixels(i)
    assert set(seen) == set(keys.tolist())
    for number in range(curated_dataset.blocks):
        block, table = curated_dataset.block_with(number, ["key"])
        for i, key in enumerate(table["key"].to_pylist()):
            if key in seen:
                assert np.array_equal(seen[key], block.pixels(i))


def test_zips_for_ecotaxa_hold_the_selection(curated_dataset, of_dataset, tmp_path):
    pytest.importorskip("aqqua.downstream.publish.ecotaxa")
    path, _ = of_dataset
    select(path, tmp_path / "zips", "ecotaxa", Wanted(rows=range(7)), dataset=curated_dataset.path)
    zips = sorted((tmp_path / "zips").glob("*.zip"))
    names = [name for one in zips for name in zipfile.ZipFile(one).namelist()]
    assert sum(name.endswith(".png") for name in names) == 7
    assert sum(name.endswith(".tsv") for name in names) == len(zips)


@pytest.mark.parametrize(
    ("kind", "wanted", "more", "said"),
    [
        ("csv", {"rows": [1]}, {}, "kind must be one of"),
        ("ids", {}, {}, "exactly one of rows, ids and where"),
        ("ids", {"rows": [1], "where": "true"}, {}, "exactly one of"),
        ("ids", {"where": "novelty > 5"}, {}, "some image must be selected"),
        ("ids", {"rows": [99_999]}, {}, "a row must be 0 to"),
        ("weights", {"rows": [1]}, {}, "needs the dataset"),
        ("ids", {"where": "label = (SELECT 1)"}, {}, "must only compare columns"),
    ],
)
def test_wrong_wishes_are_refused(atlas_path, tmp_path, kind, wanted, more, said):
    with pytest.raises(ValueError, match=said):
        select(atlas_path, tmp_path / "out.csv", kind, Wanted(**wanted), **more)
    assert list(tmp_path.iterdir()) == []


def test_files_of_ids_that_do_not_fit_are_refused(atlas_path, tmp_path):
    for name, text, said in (
        ("a.csv", "image_id\nimg_0000001\nelsewhere\n", "1 that are not, such as 'elsewhere'"),
        ("b.csv", "name\nimg_0000001\n", "ids below a heading image_id"),
        ("c.txt", "", "ids below a heading"),
        ("d.parquet", "no parquet", "must be readable"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=said):
            select(atlas_path, tmp_path / "out.csv", "ids", Wanted(ids=tmp_path / name))
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        select(atlas_path, tmp_path / "out.xlsx", "ids", Wanted(rows=[1]))
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(ValueError, match="must not exist yet"):
        select(atlas_path, tmp_path / "there.csv", "ids", Wanted(rows=[1]))
    assert (tmp_path / "there.csv").read_text() == "mine"
