"""Which relation a class takes."""

import pytest

from aqqua.downstream.carbon.choose import choose
from aqqua.downstream.carbon.registry import load_registry
from aqqua.taxonomy.classes import TaxonClass, lineage_of

CHROMISTA = ["Chromista", "Heterokontophyta", "Bacillariophyceae"]
ANIMAL = ["Animalia", "Arthropoda", "Copepoda"]


def chosen(lineage, name="a class", allow=False, diatoms="iRfcb", **values):
    one = TaxonClass(name, None, lineage_of(lineage), **values)
    return choose([one], load_registry(), allow, diatoms)[0]


@pytest.mark.parametrize(
    ("lineage", "name"),
    [
        (CHROMISTA, "diatom/diatom_large"),
        ([*CHROMISTA, None, None, "Chaetoceros"], "diatom/diatom_large"),
        (["Chromista", "Myzozoa", "Dinophyceae"], "dinoflagellate"),
        (["Chromista", "Ciliophora"], "ciliate"),
        (["Chromista", "Haptophyta"], "protist"),
        (["Plantae", "Chlorophyta"], "protist"),
        (["Bacteria", "Cyanobacteria"], "cyanobacteria"),
    ],
)
def test_by_the_finest_taxon(lineage, name):
    assert chosen(lineage).name == name


def test_rhizarians_are_no_other_protists():
    assert chosen(["Chromista", "Radiozoa", "Acantharia"]) is None
    assert chosen(["Chromista", "Foraminifera"]) is None


def test_animals_only_where_unverified_relations_are_allowed():
    assert chosen([*ANIMAL, "Calanoida"]) is None
    choice = chosen([*ANIMAL, "Calanoida"], allow=True)
    assert choice.name == "calanoid_dry_weight"
    assert choice.factor == (0.4, 0.5)  # dry weight to carbon
    assert chosen([*ANIMAL, "Cyclopoida"], allow=True).name == "zooplankton_dry_weight"
    assert chosen(["Animalia", "Cnidaria", "Hydrozoa"], allow=True) is None  # gelatinous
    assert chosen(["Animalia"], allow=True) is None


def test_what_does_not_live():
    assert chosen([], "detritus", qualifier="detritus", living=False).name == "marine_snow"
    assert chosen([], "bubble", qualifier="bubble", living=False).name == "no carbon"
    assert chosen([], "something", qualifier="unknown", living=False) is None
    assert chosen([]) is None


def test_the_two_codes_disagree_below_3000():
    assert chosen(CHROMISTA, diatoms="ifcb-analysis").name == "protist/diatom_large"


@pytest.mark.parametrize(
    ("qualifier", "flagged"), [("", False), ("chain", True), ("part", True), ("egg", True)]
)
def test_parts_and_chains_are_flagged(qualifier, flagged):
    assert chosen(CHROMISTA, qualifier=qualifier).flagged is flagged
