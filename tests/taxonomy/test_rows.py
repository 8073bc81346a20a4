"""Both styles of taxonomy tables are read, and what cannot be is said with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_taxon_tables import NAMED, named_table, ranked_row, ranked_table

from aqqua.taxonomy.classes import lineage_of
from aqqua.taxonomy.rows import aphia_id, read_rows, spelling


@given(st.integers(1, 10**7))
def test_an_aphia_id_is_a_number_or_the_text_of_a_float(number):
    assert aphia_id(str(number)) == aphia_id(f" {number}.0") == aphia_id(f"{number}.") == number


@pytest.mark.parametrize("text", ["", "  ", "NA", "nan", "None"])
def test_blanks_are_unknown(text):
    assert aphia_id(text) is None


@pytest.mark.parametrize("text", ["0", "-5", "12.5", "1e5", "urn:lsid:1080"])
def test_what_is_no_aphia_id(text):
    with pytest.raises(ValueError, match="must be a whole number above 0"):
        aphia_id(text)


@pytest.mark.parametrize("text", ["Noctiluca spp.", "noctiluca_sp", " Noctiluca  cf. ", "NOCTILUCA"])
def test_spelling_variants_are_one_name(text):
    assert spelling(text) == "noctiluca"


def test_both_styles(tmp_path):
    (row,) = read_rows(
        ranked_table(tmp_path, ranked_row("cop", "animalia arthropoda copepoda", "1080.0", "egg"))
    )
    assert (row.number, row.dataset, row.label, row.name) == (2, "seen", "cop", "copepoda")
    assert (row.aphia_id, row.qualifier, row.living) == (1080, "egg", True)
    assert row.lineage == lineage_of(["animalia", "arthropoda", "copepoda"])
    first, second = read_rows(named_table(tmp_path, Strombidium=("Strombidiidae", "1703"), Beads=("", "NA")))
    assert (first.label, first.name, first.aphia_id) == ("Strombidium", "Strombidiidae", 1703)
    assert (second.name, second.aphia_id, second.living) == ("", None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{NAMED}\na,b,,1080\n", "every row must have 7 cells as the header, got 4 in line 2"),
        (f"{NAMED}\na,b,,x12,,,\n", "whole number above 0, got x12; correct it: line 2"),
        ("label,aphia\na,1\n", "must have the columns dataset, .*got label, aphia"),
        (f'{NAMED}\n"a,b\n', "must be a readable CSV file"),
    ],
)
def test_a_table_that_is_not_sound(tmp_path, text, said):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_rows(path)


def test_no_table(tmp_path):
    with pytest.raises(ValueError, match="must be a readable CSV file"):
        read_rows(tmp_path / "none.csv")
