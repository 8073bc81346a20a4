"""Measured carbon: one trait in picograms, and nothing that a relation made."""

import pytest
from drawn_images import blob, make_dataset

from aqqua.evaluate.finetune.carbon_table import comes_from, measured_carbon
from aqqua.store.read import Dataset

HEADER = "object_id,trait_id,value,unit,method\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("carbon") / "dataset", [blob(i) for i in range(6)])


@pytest.fixture
def table(tmp_path, dataset):
    ids = dataset.table(["image_id"])["image_id"].to_pylist()

    def written(*rows):
        path = tmp_path / "carbon.csv"
        path.write_text(HEADER + "".join(f"{ids[i]},{rest}\n" for i, rest in enumerate(rows)))
        return path

    return written


UNITS = [("pg", 1), ("ng C", 1e3), ("µg", 1e6), ("ug C", 1e6), ("mg", 1e9)]


@pytest.mark.parametrize(("unit", "factor"), UNITS)
def test_all_units_become_picograms(table, dataset, unit, factor):
    found = measured_carbon(table(f"poc,2,{unit},CHN", f"poc,5,{unit},CHN"), dataset, ["protist"])
    assert (found.trait_ids, found.units) == (("carbon",), ("pg",))
    assert found.value_NT[:, 0].tolist() == [2 * factor, 5 * factor]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["poc,1,pg,CHN", "poc,2,pg,protist"], "row 3: carbon must be measured, got .* the relation protist"),
        (["poc,0,pg,CHN"], r"row 2: poc must be above 0 .* got 0\.0"),
        (["poc,1,um3,CHN"], r"one of pg, ng, .* got poc in 'um3'"),
    ],
)
def test_what_was_not_measured_is_refused(table, dataset, rows, said):
    with pytest.raises(ValueError, match=said):
        measured_carbon(table(*rows), dataset, ["protist"])


def test_a_relation_among_others_is_found():
    assert comes_from("diatom/diatom_large", ["diatom_large"])
    assert comes_from("size, protist", ["protist"])
    assert not comes_from("protistology", ["protist"])
