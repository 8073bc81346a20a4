"""A map that differs from a table is told where, and whether it says why."""

from made_taxon_tables import named_table, ranked_row, ranked_table

from aqqua.taxonomy.check import disagreements
from aqqua.taxonomy.label_map import Entry, LabelMap, MapFile
from aqqua.taxonomy.table import TaxonTable

CALANOIDA = ["Animalia", "Arthropoda", "Copepoda", "Calanoida"]


def mapped(*entries: dict) -> LabelMap:
    labels = [Entry.model_validate(entry) for entry in entries]
    return LabelMap(
        MapFile(
            name="m", description="d", sources=["s"], date="2026-01-31", table_dataset="seen", labels=labels
        )
    )


def said(found):
    return [(one.label, one.what, one.noted) for one in found]


def test_what_agrees_is_not_told(tmp_path):
    table = TaxonTable.load(
        ranked_table(
            tmp_path, ranked_row("cal", "animalia arthropoda copepoda calanoida", "1100.0", "larvae")
        )
    )
    one = {"label": "cal", "name": "Calanoida", "aphia_id": 1100, "lineage": CALANOIDA, "qualifier": "larva"}
    assert disagreements(mapped(one), table) == []


def test_each_difference_is_told_once(tmp_path):
    rows = [
        ranked_row("cal", "animalia arthropoda copepoda calanoida", "1100.0", "part_head", plankton="False"),
        ranked_row("other", "animalia arthropoda copepoda cyclopoida", "1101.0", dataset="another set"),
    ]
    table = TaxonTable.load(ranked_table(tmp_path, *rows))
    entry = {"label": "cal", "name": "C", "aphia_id": 1101, "lineage": CALANOIDA, "note": "because"}
    found = disagreements(mapped(entry), table)
    assert said(found) == [
        ("cal", "lineage", True),
        ("cal", "aphia_id", True),
        ("cal", "qualifier", True),
        ("cal", "plankton", True),
    ]
    assert str(found[0]) == "cal: lineage order Calanoida in the map, cyclopoida in the table"


def test_an_id_that_the_table_cannot_be_trusted_with_is_passed_over(tmp_path):
    rows = [
        ranked_row("cla", "animalia mollusca bivalvia pteriida inoceramidae cladoceramus", "105.0"),
        ranked_row("biv", "animalia mollusca gastropoda", "105.0"),
    ]
    table = TaxonTable.load(ranked_table(tmp_path, *rows))
    entry = {"label": "cla", "name": "Cladocera", "lineage": ["Animalia"], "aphia_id": 1069}
    assert disagreements(mapped(entry), table) == []


def test_a_table_of_names(tmp_path):
    table = TaxonTable.load(named_table(tmp_path, a=("Mesodinium major", "1476503")))
    lineage = ["Chromista", "Ciliophora", None, None, None, "Mesodinium", "Mesodinium major"]
    good = {"label": "a", "name": "M", "aphia_id": 1476503, "lineage": lineage}
    wrong = {"label": "b", "name": "N", "aphia_id": 1476503, "lineage": lineage[:6]}
    assert said(disagreements(mapped(good, wrong), table)) == [("b", "aphia_id", False)]
