"""Entries of the leaderboard: read as written; refused when something is missing, changed or said twice."""

import json
from pathlib import Path

import pytest
from made_entries import made_entry

from aqqua.evaluate.entry import comparable, figure, read_entries, read_entry, write_entry
from aqqua.store.manifest import seal_of


def test_an_entry_is_read_as_it_was_written(tmp_path):
    entry = made_entry()
    write_entry(entry, tmp_path / "a" / "one.json")
    assert read_entry(tmp_path / "a" / "one.json") == entry
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one.json"]


def test_nothing_is_written_over(tmp_path):
    write_entry(made_entry(), tmp_path / "one.json")
    with pytest.raises(ValueError, match="must not exist yet"):
        write_entry(made_entry(), tmp_path / "one.json")
    with pytest.raises(ValueError, match=r"must be named \.json"):
        write_entry(made_entry(), tmp_path / "one.txt")


def changed(tmp_path: Path, change, *, seal: bool) -> Path:
    path = tmp_path / "one.json"
    write_entry(made_entry(), path)
    values = json.loads(path.read_text())
    change(values)
    if seal:
        values["seal"] = seal_of(values)
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda v: v.pop("command"), "command"),
        (lambda v: v.update(command="  "), "command"),
        (lambda v: v.pop("commit"), "commit"),
        (lambda v: v["suite"].pop("datasets"), "suite.datasets"),
        (lambda v: v["suite"].update(datasets={}), "suite.datasets"),
        (lambda v: v["suite"]["datasets"].update(isiis="abc"), "suite.datasets.isiis"),
        (lambda v: v["model"].update(sha256=""), "model.sha256"),
        (lambda v: v["tiers"]["sample"].pop("test_rows_sha256"), "tiers.sample.test_rows_sha256"),
        (lambda v: v["tiers"]["sample"].update(test_images=0), "tiers.sample.test_images"),
        (lambda v: v.update(note="mine"), "note"),
        (lambda v: v["model"].update(parameters="many"), "model.parameters"),
        (
            lambda v: v["tiers"]["sample"]["probes"]["logistic"]["metrics"]["macro_f1"].update(low=0.99),
            "tiers.sample.probes.logistic.metrics.macro_f1",
        ),
        (
            lambda v: v["tiers"]["sample"]["probes"]["logistic"].update(confusion=[[0, 5, 1]]),
            "tiers.sample.probes.logistic",
        ),
    ],
)
def test_a_submission_that_lacks_something_is_refused_whatever_its_seal(tmp_path, change, place):
    path = changed(tmp_path, change, seal=True)
    with pytest.raises(ValueError, match="must hold a good") as refused:
        read_entry(path)
    assert f"'{place}'" in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_figure_changed_by_hand_is_noticed(tmp_path):
    def better(values):
        values["tiers"]["sample"]["probes"]["logistic"]["metrics"]["balanced_accuracy"]["value"] = 0.99

    with pytest.raises(ValueError, match="must have the seal of what it says, got another"):
        read_entry(changed(tmp_path, better, seal=False))
    (tmp_path / "one.json").unlink()
    with pytest.raises(ValueError, match="got none"):
        read_entry(changed(tmp_path, lambda v: v.pop("seal"), seal=False))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"a": NaN}', "[" * 100_000])
def test_what_is_no_entry_is_refused(tmp_path, text):
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(ValueError, match=r"leaderboard: .*one\.json must"):
        read_entry(tmp_path / "one.json")


def test_a_folder_of_entries(tmp_path):
    write_entry(made_entry("a"), tmp_path / "in" / "deep" / "a.json")
    write_entry(made_entry("b"), tmp_path / "b.json")
    assert [entry.model.name for entry in read_entries([tmp_path]).values()] == ["b", "a"]
    with pytest.raises(ValueError, match="must exist"):
        read_entries([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there must be an entry"):
        read_entries([tmp_path / "empty"])


def test_a_model_is_judged_once_on_a_suite(tmp_path):
    write_entry(made_entry("a", 0.8), tmp_path / "1.json")
    write_entry(made_entry("a", 0.9), tmp_path / "2.json")
    with pytest.raises(ValueError, match=r"judged once on a suite, got .*1\.json and .*2\.json of a"):
        read_entries([tmp_path])


def test_other_data_are_not_compared():
    assert comparable(made_entry("a")) == comparable(made_entry("b", 0.5))
    assert comparable(made_entry("a")) != comparable(made_entry("a", data="e" * 64))
    assert comparable(made_entry("a")) != comparable(made_entry("a", suite="other"))


def test_what_is_no_number_is_no_figure():
    assert figure(float("nan")) is None
    assert figure(0.5, 0.4, float("nan")).low is None
    assert figure(0.5, 0.4, 0.6).high == 0.6
