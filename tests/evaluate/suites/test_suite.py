"""Suites are strict YAML; those that come with aqqua load and name their maps."""

import pytest
from made_suite import MAP

from aqqua.evaluate.suites.suite import Suite, known_suites

GOOD = """
name: mine
description: two casts
datasets:
  first: {labels: letters.yaml, ingest: aqqua ingest cast1 --out first}
tiers:
  sample: {holdout: 0.2}
"""


def written(folder, text):
    (folder / "letters.yaml").write_text(MAP)
    path = folder / "suite.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    path = written(tmp_path, GOOD + "traits: {table: traits.csv}\nmetrics: [classification, traits]\n")
    monkeypatch.chdir("/")
    suite = Suite.load(path)
    assert suite.label_map("first").name == "letters"
    assert suite.traits.table == str(tmp_path / "traits.csv")


def test_labels_may_have_no_map(tmp_path):
    suite = Suite.load(written(tmp_path, GOOD.replace("letters.yaml", "as written")))
    assert [one.name for one in suite.label_map("first", ["b", "a", "b"]).classes] == ["a", "b"]
    assert suite.label_map("first").classes == ()


def test_the_hash_is_of_what_is_said_not_of_where(tmp_path):
    (tmp_path / "other").mkdir()
    first, second = (
        Suite.load(written(tmp_path, GOOD)),
        Suite.load(written(tmp_path / "other", "# a remark" + GOOD)),
    )
    assert first.sha256 == second.sha256
    (tmp_path / "letters.yaml").write_text(MAP.replace("of the lab", "of the ship"))
    assert first.sha256 != second.sha256
    assert Suite.load(written(tmp_path, GOOD.replace("0.2", "0.3"))).sha256 != second.sha256


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("description", "text", "every key must be known, got text"),
        ("holdout: 0.2", "share: 0.2", "share"),
        ("holdout: 0.2", "holdout: 1.5", "less than 1"),
        ("sample: {holdout: 0.2}", "sample: null", "must have one of the tiers"),
        ("sample: {holdout: 0.2}", "region: {by: month, pattern: '(.)'}", "a pattern belongs to a column"),
        ("sample: {holdout: 0.2}", "region: {by: sample, pattern: '.'}", "must have one group in brackets"),
        ("sample: {holdout: 0.2}", "region: {by: sample, pattern: '('}", "must be a regular expression"),
        (
            "sample: {holdout: 0.2}",
            "region: {by: month, in_turn: true, test: [a]}",
            "by name or in turn, not both",
        ),
        ("name: mine", "name: mine\npass_over: [eggs]", "every qualifier must be one of"),
        ("name: mine", "name: mine\nlevel: tribe", "level"),
        ("name: mine", "name: mine\nmetrics: [carbon]", "metric carbon needs a table"),
        ("name: mine", "name: mine\nprotocol: 2", "protocol"),
        ("name: mine", "name: My Suite", "name"),
    ],
)
def test_a_suite_that_is_not_sound(tmp_path, old, new, said):
    with pytest.raises(ValueError, match=said):
        Suite.load(written(tmp_path, GOOD.replace(old, new, 1)))


def test_a_suite_that_does_not_exist():
    with pytest.raises(ValueError, match="got isis; did you mean isiis"):
        Suite.load("isis")


@pytest.mark.parametrize("name", known_suites())
def test_suites_that_come_with_aqqua(name):
    suite = Suite.load(name)
    assert suite.name == name
    assert all(one.ingest.startswith("aqqua ingest ") and one.licence for one in suite.datasets.values())
    if name != "sample":
        assert [suite.label_map(key).name for key in suite.datasets] == list(suite.datasets)


def test_the_names_of_the_suites():
    assert known_suites() == ["flowcam", "ifcb", "isiis", "mix", "pwssc", "sample", "uvp6", "zooscan"]
