"""The maps that come with aqqua: whole, and in agreement with the tables they are made from."""

import zipfile

import pytest

from aqqua.taxonomy.check import disagreements
from aqqua.taxonomy.classes import KINDS, STATES
from aqqua.taxonomy.label_map import LabelMap, known_maps
from aqqua.taxonomy.table import TaxonTable
from aqqua.taxonomy.tree import Tree

FOLDERS = {"isiis": "isiis-ndsb.zip", "pwssc": "pwssc.zip", "uvp6": "uvp6/uvpec.zip"}


@pytest.mark.parametrize("name", known_maps())
def test_every_class_has_its_place(name):
    mapped = LabelMap.load(name)
    assert mapped.name == name
    for one in mapped.classes:
        assert one.qualifier in (STATES if one.living else KINDS)
        # What is no taxon has neither an AphiaID nor a place in plankton scores.
        assert one.living or (one.aphia_id is None and one.finest < 0 and not one.plankton)
    assert Tree.of(mapped.classes).ancestor_CR.shape == (len(mapped.classes), 7)


def test_poses_are_classes_of_their_own_that_share_an_id():
    classes = LabelMap.load("isiis").classes
    assert len(classes) == 121
    calanoids = [one for one in classes if one.aphia_id == 1100]
    assert len({one.name for one in calanoids}) == len(calanoids) == 8
    assert sorted(one.qualifier for one in calanoids if one.qualifier) == ["with eggs"]


def test_classes_of_one_name_are_the_same_in_every_map():
    known = {}
    for name in known_maps():
        for one in LabelMap.load(name).classes:
            assert known.setdefault(one.name, one) == one


def test_the_homonyms_are_what_the_pictures_show():
    siphonophorae = LabelMap.load("pwssc").class_of("Siphonophora")
    assert (siphonophorae.aphia_id, siphonophorae.lineage[2]) == (1371, "Hydrozoa")
    jellies = LabelMap.load("pwssc").class_of("Ctenophora")
    assert (jellies.aphia_id, jellies.lineage[0]) == (None, "Animalia")


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_every_label_of_the_real_set_is_named(name, real_data):
    with zipfile.ZipFile(real_data / FOLDERS[name]) as archive:
        labels = {one.split("/")[-2] for one in archive.namelist() if not one.endswith("/") and "/" in one}
    assert set(LabelMap.load(name).labels) == labels


def test_other_labels_of_real_sets_are_named(real_data):
    with zipfile.ZipFile(real_data / "flowcam-vickot.zip") as archive:
        labels = {one.split("/")[1] for one in archive.namelist() if one.startswith("classes/")} - {""}
    assert set(LabelMap.load("flowcam").labels) == labels
    folders = (real_data / "ifcb" / "smhi-ifcb134" / "training_data").iterdir()
    assert set(LabelMap.load("ifcb").labels) == {folder.name for folder in folders}
    text = (real_data / "zooscan" / "ecotaxa_ml_template" / "training_labels.csv").read_text()
    assert set(LabelMap.load("zooscan").labels) == {line.split(",")[2] for line in text.split()[1:]}


@pytest.mark.parametrize("table", ["planktonzilla_taxonomy.csv", "smhi_taxa_lookup.csv"])
def test_disagreements_with_the_tables_are_all_explained(table, real_data):
    read = TaxonTable.load(real_data / "taxonomy" / table)
    found = [one for name in known_maps() for one in disagreements(LabelMap.load(name), read)]
    assert [str(one) for one in found if not one.noted] == []
    assert (table == "planktonzilla_taxonomy.csv") == bool(found)
