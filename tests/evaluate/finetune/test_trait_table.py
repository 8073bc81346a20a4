"""Trait tables: read back by image, and every mistake names its row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aqqua.evaluate.finetune.trait_table import measured, read_traits
from aqqua.store.read import Dataset

HEAD = "object_id,trait_id,value,unit,method"
GOOD = f"""{HEAD},annotator
made/shape000,length,12.5,um,ruler,ann
shape003,length,3e1,um,ruler,bob
shape003,eggs,True,,eye,bob
shape003,eggs,1,,eye,ann
"""


def write(folder, text: str):
    (folder / "traits.csv").write_text(text, encoding="utf-8")
    return folder / "traits.csv"


def test_values_come_by_image(disks_and_rods, tmp_path):
    dataset = disks_and_rods.dataset
    found = measured(write(tmp_path, GOOD), dataset)
    ids = dataset.table(["image_id"])["image_id"].to_pylist()
    pairs = zip(found.row_N.tolist(), found.value_NT.tolist(), strict=True)
    by_id = {ids[row]: values for row, values in pairs}
    assert found.trait_ids == ("length", "eggs")
    assert found.units == ("um", "")
    assert by_id["made/shape003"] == [30, 1]
    assert by_id["made/shape000"][0] == 12.5
    assert np.isnan(by_id["made/shape000"][1])
    assert len(by_id) == 2


def test_parquet_says_the_same(disks_and_rods, tmp_path):
    rows = read_traits(write(tmp_path, GOOD))
    columns = {name: [getattr(one, name) for one in rows] for name in HEAD.split(",")}
    pq.write_table(pa.table(columns), tmp_path / "traits.parquet")
    again = measured(tmp_path / "traits.parquet", disks_and_rods.dataset)
    np.testing.assert_array_equal(
        again.value_NT, measured(tmp_path / "traits.csv", disks_and_rods.dataset).value_NT
    )
    assert [one.row for one in read_traits(tmp_path / "traits.parquet")] == [1, 2, 3, 4]
    assert [one.row for one in rows] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("shape001,t,nan,um,m", r"row 2: value of t must be a number, got 'nan'"),
        ("shape001,t,,um,m", r"row 2: value of t must be a number, got ''"),
        ("shape001,t,1,um,m\nshape002,t,inf,um,m", r"row 3: value of t must be a number"),
        ("shape001,t,big,um,m", r"row 2: value of t must be a number, got 'big'"),
        (",t,1,um,m", r"row 2: object_id must be a name"),
        ("shape001,,1,um,m", r"row 2: trait_id must be a name"),
        ("shape001,t,1,um,m\nshape002,t,1,mm,m", r"got 'um' in row 2 and 'mm' in row 3"),
        ("shape001,t,1,um,m\nmade/shape001,t,2,um,m", r"got 1.0 in row 2 and 2.0 in row 3"),
        ("shape001,t,1,um,m\nshape999,t,1,um,m", r"row 3: object_id .* one that is not there: shape999"),
        ("shape001,t,1,um", r"must be a readable table"),
        ("", r"must hold a value at least"),
    ],
)
def test_mistakes_name_their_row(disks_and_rods, tmp_path, rows, said):
    with pytest.raises(ValueError, match=said) as caught:
        measured(write(tmp_path, f"{HEAD}\n{rows}\n"), disks_and_rods.dataset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "object_id,trait_id,value,unit\n", "got no method"),
        ("t.csv", f"{HEAD},species\n", "got species too"),
        ("t.csv", "\x00\xff", "must be a readable table|must have the columns"),
        ("t.parquet", "PAR1", "must be a readable table"),
        ("t.xlsx", "", r"must be a \.csv or \.parquet file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=said):
        read_traits(tmp_path / name)


def test_a_name_that_two_images_end_with_is_refused(tmp_path):
    class Two(Dataset):
        def __init__(self):
            self.path = tmp_path

        def table(self, _columns):
            return pa.table({"image_id": ["a/shape001", "b/shape001"]})

    path = write(tmp_path, f"{HEAD}\nshape001,t,1,um,m\n")
    with pytest.raises(ValueError, match="one that two images end with: shape001"):
        measured(path, Two())
    assert measured(write(tmp_path, f"{HEAD}\nb/shape001,t,1,um,m\n"), Two()).row_N.tolist() == [1]
