"""Classes join at a rank by taxon and qualifier, never by accident."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.taxonomy.classes import RANKS, TaxonClass, lineage_of
from aqqua.taxonomy.label_map import LabelMap, known_maps
from aqqua.taxonomy.level import at_level, joined

REAL = {name: LabelMap.load(name).classes for name in known_maps()}
COPEPODA = ["Animalia", "Arthropoda", "Copepoda"]
CALANOID = TaxonClass("Calanoida (large)", 1100, lineage_of([*COPEPODA, "Calanoida"]))
OITHONA = TaxonClass("Oithona", 106485, lineage_of([*COPEPODA, "Cyclopoida", "Oithonidae", "Oithona"]))
EGGS = TaxonClass("Oithona (with eggs)", 106485, OITHONA.lineage, "with eggs")
CRUSTACEA = TaxonClass("Crustacea", 1065, lineage_of(COPEPODA[:2]))
BLOB = TaxonClass("detritus (blob)", None, lineage_of([]), "detritus", False, False)
SNOW = TaxonClass("detritus (snow)", None, lineage_of([]), "detritus", False, False)
ODD = TaxonClass("protist", None, lineage_of([]))


def test_taxa_join_and_states_stay_apart():
    classes, numbers = at_level([CALANOID, OITHONA, EGGS, CRUSTACEA, BLOB, SNOW, ODD], "class")
    assert [(one.name, one.aphia_id) for one in classes] == [
        ("Copepoda", 1080),
        ("Copepoda (with eggs)", 1080),
        ("detritus", None),
        ("protist", None),
    ]
    assert numbers == [0, 0, 1, -1, 2, 2, 3]
    assert classes[0].lineage == lineage_of(COPEPODA)


def test_states_can_be_passed_over():
    classes, numbers = at_level([CALANOID, EGGS], "class", ["with eggs"])
    assert [one.name for one in classes] == ["Copepoda"]
    assert numbers == [0, 0]


def test_without_a_level_classes_are_as_they_are():
    classes, numbers = at_level([OITHONA, CALANOID, OITHONA], None)
    assert classes == (CALANOID, OITHONA)
    assert numbers == [1, 0, 1]
    other = TaxonClass("Oithona", None, OITHONA.lineage)
    with pytest.raises(ValueError, match="those of one name must be the same in every label map"):
        at_level([OITHONA, other], None)


def test_an_id_of_the_level_itself_is_kept():
    own = TaxonClass("Sergestidae", 5, lineage_of([*COPEPODA, "X", "Y"]))
    assert joined(own, "family").aphia_id == 5
    assert joined(own, "order").aphia_id is None  # of no table


def test_the_only_class_of_a_phylum_is_known():
    arrow = TaxonClass("Chaetognatha", 2081, lineage_of(["Animalia", "Chaetognatha"]))
    found = joined(arrow, "class")
    assert (found.name, found.aphia_id) == ("Sagittoidea", None)
    assert joined(arrow, "order") is None


def test_homonyms_do_not_join():
    jelly = TaxonClass("a", None, lineage_of(["Animalia", "Ctenophora"]))
    plant = TaxonClass("b", None, lineage_of(["Chromista", "Ctenophora"]))
    classes, numbers = at_level([plant, jelly], "phylum")
    assert [one.name for one in classes] == ["Ctenophora [Animalia]", "Ctenophora [Chromista]"]
    assert numbers == [1, 0]


def test_no_such_rank():
    with pytest.raises(ValueError, match=r"must be one of kingdom, .* got tribe"):
        joined(OITHONA, "tribe")


@given(st.sampled_from(RANKS), st.sets(st.sampled_from(sorted(REAL)), min_size=1))
def test_real_maps_join_at_every_rank(level, names):
    given = [one for name in sorted(names) for one in REAL[name]]
    classes, numbers = at_level(given, level)
    assert len({one.name for one in classes}) == len(classes)
    for one, number in zip(given, numbers, strict=True):
        assert number >= 0 or one.lineage[RANKS.index(level)] is None
        if number >= 0:
            assert classes[number].qualifier == one.qualifier
            assert one.living == classes[number].living
