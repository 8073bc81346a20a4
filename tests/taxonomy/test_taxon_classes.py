"""A class says what it is, or is refused with what to do."""

import json

import pytest

from aqqua.taxonomy.classes import RANKS, TaxonClass, lineage_of

CALANOIDA = lineage_of(["Animalia", "Arthropoda", "Copepoda", "Calanoida"])


def test_the_finest_rank_is_the_taxon():
    one = TaxonClass("Calanoida (large)", 1100, CALANOIDA)
    assert (RANKS[one.finest], one.taxon) == ("order", "Calanoida")
    gap = TaxonClass("Clytia", None, lineage_of(["Animalia", "Cnidaria", "Hydrozoa", None, None, "Clytia"]))
    assert (RANKS[gap.finest], gap.taxon) == ("genus", "Clytia")
    none = TaxonClass("detritus", None, lineage_of([]), "detritus", living=False, plankton=False)
    assert (none.finest, none.taxon) == (-1, None)


def test_json_there_and_back():
    one = TaxonClass("Copepoda (egg)", 1080, lineage_of(["Animalia", "Arthropoda", "Copepoda"]), "egg")
    assert TaxonClass.from_dict(json.loads(json.dumps(one.as_dict()))) == one


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": " "}, "name must not be empty"),
        ({"lineage": ("Animalia",)}, "lineage must have a name or None for each of kingdom, .* got 1"),
        ({"qualifier": "eggs"}, "qualifier must be one of .* got 'eggs' for x"),
        ({"aphia_id": 0}, "aphia_id must be above 0 or None, got 0"),
    ],
)
def test_what_no_class_can_be(values, said):
    with pytest.raises(ValueError, match=said):
        TaxonClass(**{"name": "x", "aphia_id": None, "lineage": CALANOIDA, **values})


@pytest.mark.parametrize("values", [{"name": "x"}, {**TaxonClass("x", 1, CALANOIDA).as_dict(), "rank": 1}])
def test_a_dict_with_other_keys_is_refused(values):
    with pytest.raises(ValueError, match="the keys must be name, aphia_id, lineage"):
        TaxonClass.from_dict(values)


def test_a_lineage_has_no_more_names_than_ranks():
    with pytest.raises(ValueError, match="at most 7 names"):
        lineage_of(["a"] * 8)
