"""Every image is counted once: used, or left out with a reason."""

import numpy as np
import pyarrow as pa
import pytest
from made_suite import column

from aqqua.curate.copies.duplicates import FIELDS, KIND
from aqqua.evaluate.suites.images import read_images
from aqqua.store.columns import write_columns

SAMPLE = {"sample": {"holdout": 0.3}}


def test_what_counts_and_what_not(hold, suite_of):
    facts = [{"label": label} for label in "aaobcdx"]
    facts += [{"status": s} for s in ("folder", "predicted", "dubious", "discarded")]
    facts += [{"label": None, "status": "unlabelled"}, {"content": 99, "label": "a"}]
    facts += [{"content": 99, "label": "b"}, {"content": 98, "label": "x"}, {"content": 98, "label": "a"}]
    dataset = hold("d", facts)
    images = read_images(suite_of(tiers=SAMPLE, level="class"), {"first": dataset})
    assert [one.name for one in images.classes] == ["Copepoda", "Hydrozoa", "detritus"]
    assert images.left_out == {
        "label coarser than class": 1,
        "label x left out: of the lab": 2,
        "label not trusted": 3,
        "no label": 1,
        "equal pixels under two labels": 3,
    }
    assert (images.class_I >= 0).sum() + sum(images.left_out.values()) == len(images) == 16
    ids = column(dataset, "image_id")
    names = {name: images.classes[c].name for name, c in zip(ids, images.class_I, strict=True) if c >= 0}
    assert (names["m/o0"], names["m/o2"], names["m/o3"], names["m/o5"]) == (
        "Copepoda",
        "Copepoda",
        "Hydrozoa",
        "detritus",
    )
    assert "m/o12" not in names


def test_two_labels_that_join_are_no_contradiction(hold, suite_of):
    dataset = hold("d", [{"content": 1, "label": "a"}, {"content": 1, "label": "o"}])
    apart = read_images(suite_of(tiers=SAMPLE), {"first": dataset})
    assert apart.left_out == {"equal pixels under two labels": 2}
    assert read_images(suite_of(tiers=SAMPLE, level="class"), {"first": dataset}).left_out == {}


def test_an_unknown_label_names_the_image(hold, suite_of):
    dataset = hold("d", [{"label": "a"}, {"label": "ab"}])
    with pytest.raises(ValueError, match=r"got 'ab'; the nearest is [ab]; .*first of image m/o1"):
        read_images(suite_of(tiers=SAMPLE), {"first": dataset})


def test_data_sets_side_by_side(hold, suite_of):
    first = hold("d", [{"group": "g", "sample": "s"}, {"group": "g", "instrument": "unknown", "sample": "s"}])
    second = hold("e", [{"group": "g", "sample": "s"}, {"content": 7}, {"content": 7}])
    suite = suite_of("first", "second", tiers=SAMPLE, dataset={"instrument": "UVP6"})
    images = read_images(suite, {"first": first, "second": second})
    assert images.instruments == ("IFCB", "UVP6")
    assert images.dataset_I.tolist() == [0, 0, 1, 1, 1]
    assert sorted(images.row_I.tolist()) == [0, 0, 1, 1, 2]
    assert set(images.samples) == {"IFCB/s", "UVP6/s"}
    group = dict(
        zip(zip(images.dataset_I.tolist(), names_of(first, second), strict=True), images.group_I, strict=True)
    )
    assert group[0, "m/o0"] == group[1, "m/o0"]  # one bin in two sets
    assert group[0, "m/o0"] != group[0, "m/o1"]  # of another instrument
    assert group[1, "m/o1"] == group[1, "m/o2"]  # equal pixels without a group
    assert (images.sample_I == -1).sum() == 2


def names_of(*datasets):
    return [name for dataset in datasets for name in column(dataset, "image_id")]


def test_groups_can_be_told_by_names(hold, suite_of):
    dataset = hold("d", [{} for _ in range(12)])
    suite = suite_of(tiers=SAMPLE, dataset={"group": {"column": "image_id", "pattern": r"/o(\d)"}})
    images = read_images(suite, {"first": dataset})
    first_digit = [name[3] for name in column(dataset, "image_id")]
    assert len(set(images.group_I)) == len(set(first_digit)) == 10
    assert images.table["group"].to_pylist() == first_digit


def test_near_copies_are_one_picture(hold, suite_of, tmp_path):
    dataset = hold("d", [{} for _ in range(40)])
    of = {f"m/o{i}": f"m/o{i - 1}" for i in (5, 6, 21)}

    def table(block):
        ids = dataset.table(["image_id"], [block])["image_id"].to_pylist()
        kept = [of.get(name) for name in ids]
        kinds = [None if one is None else "near" for one in kept]
        return pa.table({"duplicate_of": kept, "duplicate_kind": kinds}, schema=pa.schema(FIELDS))

    with write_columns(tmp_path / "near", dataset, KIND, FIELDS, {}, "test") as writer:
        writer.write_part(0, table)
    suite = suite_of(tiers=SAMPLE)
    exact = read_images(suite, {"first": dataset})
    assert len(np.unique(exact.picture_I)) == 40
    images = read_images(suite, {"first": dataset}, {"first": tmp_path / "near"})
    picture = dict(zip(column(dataset, "image_id"), images.picture_I, strict=True))
    assert picture["m/o4"] == picture["m/o5"] == picture["m/o6"]
    assert picture["m/o20"] == picture["m/o21"]
    assert len(set(picture.values())) == 37
    with pytest.raises(ValueError, match="duplicates must be of one of first, got second"):
        read_images(suite, {"first": dataset}, {"second": tmp_path / "near"})
