"""Class files of IFCB bins: the fields of a real file, and the right rows in them."""

import numpy as np
import pytest
from made_published import CLASSES, prediction_rows, write_predictions

from aqqua.downstream.predictions import Predictions
from aqqua.downstream.publish.ifcb_class_h5 import bin_and_roi, export_ifcb_class_h5

h5py = pytest.importorskip("h5py")
OTHER = "IFCB5_2012_028_081515"


@pytest.fixture
def ifcb_rows(made):
    """Rows of two bins, mixed."""
    rows = [row for row in prediction_rows(made.dataset)][:12]
    for number, row in enumerate(rows):
        lid = ("D20130526T095207_IFCB013", OTHER)[number % 2]
        row["image_id"], row["instrument"] = f"data/2013/{lid}_{(17 * number) % 13 + 1:05d}", "IFCB"
    return rows


def described(file):
    return {
        name: (field.dtype, field.ndim, h5py.check_string_dtype(field.dtype)) for name, field in file.items()
    }


def test_fields_of_a_real_file(ifcb_rows, real_data, tmp_path):
    path = write_predictions(tmp_path / "p.parquet", ifcb_rows)
    assert export_ifcb_class_h5(path, tmp_path / "out") == 2
    real_file = real_data / "ifcb/smhi-algaware/D20250714T110535_IFCB134_class.h5"
    with h5py.File(real_file) as real, h5py.File(tmp_path / "out" / f"{OTHER}_class.h5") as ours:
        assert described(ours) == described(real)
        assert dict(ours.attrs) == dict(real.attrs)
        for file in (real, ours):  # the same relations between the fields hold in both
            rois, labels = file["roi_numbers"][()], file["class_labels"].asstr()[()]
            scores, thresholds = file["output_scores"][()], file["thresholds"][()]
            assert scores.shape == (len(rois), len(labels))
            assert len(thresholds) == len(labels)
            assert (np.diff(rois) > 0).all()
            assert file["class_name_auto"].asstr()[()].tolist() == labels[scores.argmax(axis=1)].tolist()
            sure = scores.max(axis=1) >= thresholds[scores.argmax(axis=1)]
            final = np.where(sure, file["class_name_auto"].asstr()[()], "unclassified")
            assert file["class_name"].asstr()[()].tolist() == final.tolist()
            assert file["classifier_name"].shape == (1,)


def test_rows_and_thresholds(ifcb_rows, tmp_path):
    path = write_predictions(tmp_path / "p.parquet", ifcb_rows)
    export_ifcb_class_h5(path, tmp_path / "out", {"Calanoida": 0.9, "detritus": 1.0})
    seen = 0
    for row in (row for table in Predictions.open(path).batches() for row in table.to_pylist()):
        lid, roi = bin_and_roi(row["image_id"])
        with h5py.File(tmp_path / "out" / f"{lid}_class.h5") as file:
            at = file["roi_numbers"][()].tolist().index(roi)
            assert file["output_scores"][at].tolist() == [float(score) for score in row["scores"]]
            assert file["class_name_auto"].asstr()[at] == row["class"]
            least = {"Calanoida": 0.9, "detritus": 1.0}.get(row["class"], 0)
            want = row["class"] if max(row["scores"]) >= least else "unclassified"
            assert file["class_name"].asstr()[at] == want
            assert file["class_labels"].asstr()[()].tolist() == [one.name for one in CLASSES]
        seen += 1
    assert seen == 12
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "D20130526T095207_IFCB013_class.h5", f"{OTHER}_class.h5"]  # fmt: skip


def test_refuses_what_is_not_of_an_ifcb(ifcb_rows, tmp_path):
    ifcb_rows[4]["instrument"] = "UVP6"
    path = write_predictions(tmp_path / "p.parquet", ifcb_rows)
    with pytest.raises(ValueError, match=r"must be of an IFCB .* of 'UVP6' in row 5"):
        export_ifcb_class_h5(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refuses_a_roi_twice(ifcb_rows, tmp_path):
    ifcb_rows[6]["image_id"] = "another/" + ifcb_rows[2]["image_id"].rsplit("/")[-1]
    path = write_predictions(tmp_path / "p.parquet", ifcb_rows)
    with pytest.raises(
        ValueError, match="must be there once, got D20130526T095207_IFCB013_00009 in rows 3 and 7"
    ):
        export_ifcb_class_h5(path, tmp_path / "out")


def test_refuses_wrong_thresholds(ifcb_rows, tmp_path):
    path = write_predictions(tmp_path / "p.parquet", ifcb_rows)
    with pytest.raises(ValueError, match="of classes of the classifier, got 'x'"):
        export_ifcb_class_h5(path, tmp_path / "out", {"x": 0.1})
    with pytest.raises(ValueError, match=r"must be 0 to 1, got 2.0 for 'Calanoida'"):
        export_ifcb_class_h5(path, tmp_path / "out", {"Calanoida": 2.0})


@pytest.mark.parametrize(
    ("image_id", "want"),
    [
        ("a/D20130526T095207_IFCB013_00012", ("D20130526T095207_IFCB013", 12)),
        (f"{OTHER}_00007", (OTHER, 7)),
        (f"x/{OTHER}_00007.png", None),
        ("x/copepod_00007", None),
        (f"x{OTHER}_00007", None),
    ],
)
def test_names_of_images(image_id, want):
    assert bin_and_roi(image_id) == want
