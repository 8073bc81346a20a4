"""Label maps are strict, and say what is wrong."""

import pytest

from aqqua.taxonomy.label_map import LabelMap, known_maps

GOOD = """
name: mine
description: two classes
sources: [a book]
date: "2026-01-31"
labels:
  - {label: cop, name: Copepoda, aphia_id: 1080, lineage: [Animalia, Arthropoda, Copepoda]}
  - {label: copepod, name: Copepoda, aphia_id: 1080, lineage: [Animalia, Arthropoda, Copepoda]}
  - {label: snow, name: detritus, qualifier: detritus, living: false, plankton: false}
leave_out:
  - {label: test, reason: pictures of the lab}
"""


def written(folder, text):
    path = folder / "map.yaml"
    path.write_text(text)
    return path


def test_two_labels_may_be_one_class(tmp_path):
    mapped = LabelMap.load(written(tmp_path, GOOD))
    assert [one.name for one in mapped.classes] == ["Copepoda", "detritus"]
    assert mapped.class_of("cop") == mapped.class_of("copepod") == mapped.labels["cop"]
    assert mapped.class_of("test") is None
    assert mapped.reason("test") == "pictures of the lab"
    with pytest.raises(ValueError, match="cop must be left out by mine"):
        mapped.reason("cop")


def test_an_unknown_label_names_the_nearest(tmp_path):
    mapped = LabelMap.load(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match="got 'copepods'; the nearest is copepod; add it under labels"):
        mapped.class_of("copepods")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("label: snow", "label: cop", "every label must be there once, got cop twice"),
        ("label: test", "label: cop", "every label must be there once, got cop twice"),
        ("copepod, name: Copepoda, aphia_id: 1080", "copepod, name: Copepoda", "got two of Copepoda"),
        ("qualifier: detritus", "qualifier: dust", "qualifier must be one of"),
        ("living: false", "alive: false", "alive"),
        ("aphia_id: 1080, lineage", "aphia_id: '1080', lineage", "aphia_id"),
        ("reason: pictures of the lab", "reason: ''", "reason"),
        ("name: mine", "title: mine", "every key must be known, got title"),
        ('"2026-01-31"', '"today"', "date"),
    ],
)
def test_a_map_that_is_not_sound(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(ValueError, match=said):
        LabelMap.load(written(tmp_path, GOOD.replace(old, new, 1)))


def test_a_map_that_does_not_exist():
    assert known_maps() == ["flowcam", "ifcb", "isiis", "pwssc", "sample", "uvp6", "zooscan"]
    with pytest.raises(ValueError, match="got isis; did you mean isiis"):
        LabelMap.load("isis")
