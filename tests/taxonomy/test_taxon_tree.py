"""The tree: distances worked out by hand, and what every tree must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.taxonomy.classes import TaxonClass, lineage_of
from aqqua.taxonomy.label_map import LabelMap, known_maps
from aqqua.taxonomy.tree import Tree

REAL = {name: LabelMap.load(name).classes for name in known_maps()}
COPEPODA = ["Animalia", "Arthropoda", "Copepoda"]


def taxon(name, lineage, qualifier=""):
    return TaxonClass(name, None, lineage_of(lineage), qualifier)


def kind(name, qualifier="unknown"):
    return TaxonClass(name, None, lineage_of([]), qualifier, False, False)


CLASSES = (
    taxon("Copepoda", COPEPODA),
    taxon("Calanoida", [*COPEPODA, "Calanoida"]),
    taxon("Calanoida (side)", [*COPEPODA, "Calanoida"]),
    taxon("Oithona", [*COPEPODA, "Cyclopoida", "Oithonidae", "Oithona"]),
    taxon("Copepoda (egg)", COPEPODA, "egg"),
    taxon("Acantharia", ["Chromista", "Radiozoa", "Acantharia"]),
    kind("detritus", "detritus"),
    kind("detritus (blob)", "detritus"),
    kind("bubble", "bubble"),
)


def test_distances_by_hand():
    d = {
        (a.name, b.name): d
        for a, row in zip(CLASSES, Tree.of(CLASSES).distance_CC.tolist(), strict=True)
        for b, d in zip(CLASSES, row, strict=True)
    }
    assert d["Copepoda", "Calanoida"] == 1
    assert d["Calanoida", "Calanoida (side)"] == 0
    assert d["Calanoida", "Oithona"] == 1 + 3
    assert d["Copepoda", "Copepoda (egg)"] == 1
    assert d["Copepoda (egg)", "Calanoida"] == 2
    assert d["Copepoda", "Acantharia"] == 3 + 3
    assert d["detritus", "detritus (blob)"] == 0
    assert d["detritus", "bubble"] == 2
    assert d["detritus", "Copepoda"] == 2 + 3


def test_ancestors():
    tree = Tree.of(CLASSES)
    assert tree.ancestor_CR.dtype == np.int32
    assert tree.ancestor_CR[0].tolist()[3:] == [-1] * 4
    assert tree.nodes[tree.ancestor_CR[3, 4]] == ("family", "Oithonidae")
    np.testing.assert_array_equal(tree.ancestor_CR[1], tree.ancestor_CR[2])
    assert (tree.ancestor_CR[6:] == -1).all()


def test_what_one_class_knows_helps_the_other():
    a = taxon("a", ["Animalia", "Cnidaria", "Hydrozoa", "Siphonophorae", "Abylidae"])
    b = taxon("b", ["Animalia", None, None, None, "Abylidae", "Abyla"])
    tree = Tree.of([a, b])
    np.testing.assert_array_equal(tree.ancestor_CR[0, :5], tree.ancestor_CR[1, :5])
    assert tree.distance_CC[0, 1] == 1


def test_an_unknown_rank_between_counts_as_one():
    a = taxon("a", ["Animalia", "Cnidaria", None, None, None, "Clytia"])
    b = taxon("b", ["Animalia", "Cnidaria", "Hydrozoa", "X", "Y", "Aglaura"])
    assert Tree.of([a, b]).distance_CC[0, 1] == 8


def test_two_parents_are_refused():
    a = taxon("a", ["Animalia", "Cnidaria", "Hydrozoa", None, "Abylidae"])
    b = taxon("b", ["Animalia", "Cnidaria", "Scyphozoa", None, "Abylidae"])
    with pytest.raises(ValueError, match="family Abylidae must have one class, got Hydrozoa of a and Scypho"):
        Tree.of([a, b])
    # Said by nobody directly: the order lies in two classes only once it is known to hold the family.
    c = taxon("c", ["Animalia", "Cnidaria", "Hydrozoa", None, "F"])
    d = taxon("d", ["Animalia", "Cnidaria", None, "O", "F"])
    e = taxon("e", ["Animalia", "Cnidaria", "Scyphozoa", "O"])
    with pytest.raises(ValueError, match="order O must have one class"):
        Tree.of([c, d, e])


def test_homonyms_are_two_nodes():
    a = taxon("a", ["Animalia", "Ctenophora"])
    b = taxon("b", ["Chromista", "Ctenophora"])
    assert Tree.of([a, b]).distance_CC[0, 1] == 4


def test_no_classes():
    assert Tree.of([]).distance_CC.shape == (0, 0)


@given(st.sets(st.sampled_from(sorted(REAL)), min_size=1), st.data())
def test_a_metric_on_real_maps(names, data):
    classes = list(dict.fromkeys(one for name in sorted(names) for one in REAL[name]))
    chosen = data.draw(st.lists(st.sampled_from(classes), min_size=2, max_size=12, unique=True))
    d = Tree.of(chosen).distance_CC
    assert (d >= 0).all()
    assert (d == d.T).all()
    assert (np.diag(d) == 0).all()
    assert (d[:, None] <= d[:, :, None] + d[None]).all()
