"""An evaluation says what it did: figures, margins, who had seen what; and it is the same again."""

import numpy as np
import pytest

from aqqua.evaluate.asking import FITTED, NEIGHBOURS
from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.entry import comparable, read_entry
from aqqua.evaluate.models import load_embedder, save_embedder
from aqqua.evaluate.probes.attentive import Attentive
from aqqua.evaluate.report import evaluate
from aqqua.evaluate.submission import entry_of, entry_paths, write_entries
from aqqua.evaluate.suites.prepare import prepare
from aqqua.evaluate.suites.suite import Suite
from aqqua.store.read import Dataset
from aqqua.store.split import held_out

ANSWERS = [f"{kind} k={k}" for kind in ("kNN", "whitened kNN") for k in NEIGHBOURS]


@pytest.fixture(scope="module")
def ready(sample_dataset):
    return prepare(Suite.of_labels(0.3), {"data": sample_dataset})


@pytest.fixture(scope="module")
def result(ready, tiny_run):
    return evaluate(ready, [open_contender(name) for name in (str(tiny_run), "pixels")])


def test_every_contender_is_judged_by_every_probe(ready, result, tiny_run):
    by = {(one.contender, one.probe): one for one in result.scores}
    probes = (*ANSWERS, "logistic")
    assert list(by) == [(name, probe) for name in (str(tiny_run), "pixels") for probe in probes]
    split = ready.splits[0]
    for (name, probe), scores in by.items():
        called = result.called[name, "sample", probe]
        assert scores.images == len(called.truth_M) == len(split.test)
        right = called.predicted_M == split.test_label
        assert scores.figures["accuracy"].value == pytest.approx(np.mean(right))
        assert set(scores.figures) == {"macro_f1", "balanced_accuracy", "accuracy"}  # what the suite asks for


def test_margins_are_paired_and_hold_the_difference(result, tiny_run):
    by = {(one.contender, one.probe): one.figures["macro_f1"].value for one in result.scores}
    margins = result.margins
    assert list(margins) == ["pixels"]
    assert list(margins["pixels"]["sample"]) == [*ANSWERS, "logistic"]
    for probe, margin in margins["pixels"]["sample"].items():
        assert margin.value == pytest.approx(by[str(tiny_run), probe] - by["pixels", probe])
        assert margin.low <= margin.value <= margin.high


def test_the_same_evaluation_again_is_the_same(ready, result, tiny_run):
    again = evaluate(ready, [open_contender(name) for name in (str(tiny_run), "pixels")])
    assert again.as_dict() == result.as_dict()


def test_people_read_a_line_for_each_answer(result, tiny_run):
    lines = result.lines()
    assert "test images of" in lines[0]
    assert "note" not in lines[1]  # the run held out 0.3 too
    assert sum(str(tiny_run) in line for line in lines) == 1 + 7  # the heading of the margins too
    assert sum("pixels" in line for line in lines) == 7


def test_who_had_seen_what_is_told(sample_dataset, tiny_run, tmp_path):
    def unseen(name, holdout):
        ready = prepare(Suite.of_labels(holdout), {"data": sample_dataset})
        return evaluate(ready, [open_contender(name)], probes=["knn"]).unseen

    assert unseen(str(tiny_run), 0.3) == {"sample": True}
    assert unseen(str(tiny_run), 0.5) == {"sample": False}  # more than the run held out
    save_embedder(load_embedder(tiny_run), tmp_path / "m.safetensors")
    assert unseen(str(tmp_path / "m.safetensors"), 0.3) == {"sample": None}  # nobody can know
    assert unseen("pixels", 0.3) == {"sample": None}


def test_patch_tokens_are_looked_at_by_the_probe_that_wants_them(ready, tiny_run, tmp_path, monkeypatch):
    brief = Attentive(rates=(1e-3,), epochs=1, min_steps=5)
    monkeypatch.setitem(FITTED, "attentive", lambda: brief)
    result = evaluate(ready, [open_contender(str(tiny_run))], probes=["attentive"], cache=tmp_path)
    assert [one.probe for one in result.scores] == ["attentive"]
    assert list(tmp_path.glob("*-tokens.npy"))
    with pytest.raises(ValueError, match="attentive needs patch tokens, got pixels"):
        evaluate(ready, [open_contender("pixels")], probes=["attentive"])


@pytest.mark.parametrize(
    ("names", "probes", "says"),
    [
        ([], ["knn"], "must be given"),
        (["pixels"] * 2, ["knn"], "each once"),
        (["pixels"], ["svm"], "one of knn"),
    ],
)
def test_what_cannot_be_judged_is_refused(ready, names, probes, says):
    with pytest.raises(ValueError, match=says):
        evaluate(ready, [open_contender(name) for name in names], probes=probes)


def test_entries_hold_what_was_found(ready, result, tiny_run, sample_dataset, tmp_path):
    paths = write_entries(result, tmp_path / "entries", "aqqua evaluate ...")
    entries = [read_entry(path) for path in paths]
    assert [one.model.name for one in entries] == [str(tiny_run), "pixels"]
    assert comparable(entries[0]) == comparable(entries[1])
    for entry in entries:
        assert entry.suite.datasets == {"data": Dataset.open(sample_dataset).manifest_sha256}
        tier = entry.tiers["sample"]
        assert tier.test_images == len(ready.splits[0].test)
        probe = tier.probes["logistic"]
        called = result.called[entry.model.name, "sample", "logistic"]
        right = sum(images for a, b, images in probe.confusion if a == b)
        assert right == (called.predicted_M == called.truth_M).sum()
        assert sum(images for *_, images in probe.confusion) == tier.test_images
        asked = sum(row.support for row in probe.classes)
        assert asked == tier.test_images
        scores = next(
            one for one in result.scores if (one.contender, one.probe) == (entry.model.name, "logistic")
        )
        assert probe.metrics["macro_f1"].value == scores.figures["macro_f1"].value
    assert entries[0].model.gflops_per_image > 0
    assert entries[0].model.parameters > 1000
    assert (entries[1].model.gflops_per_image, entries[1].model.parameters) == (None, 0)
    with pytest.raises(ValueError, match="entries must be new files"):
        entry_paths(tmp_path / "entries", result.prepared.suite.name, ["pixels"])


def test_what_pretraining_knew_stands_in_the_entry_of_the_model(sample_dataset, ready, tiny_run, tmp_path):
    ids = ready.images.table["image_id"].to_pylist()
    (tmp_path / "known.txt").write_text("\n".join(ids[n] for n in ready.splits[0].test[:4]))
    told = prepare(
        Suite.of_labels(0.3), {"data": sample_dataset}, contamination={"data": [tmp_path / "known.txt"]}
    )
    result = evaluate(told, [open_contender(name) for name in (str(tiny_run), "pixels")], probes=["knn"])
    seen, of_pixels = (entry_of(result, one, "x").seen_in_pretraining for one in result.contenders)
    assert (seen.images, seen.of, seen.left_out) == (4, len(told.splits[0].test), False)
    assert of_pixels is None  # whose pretraining nobody asked about


def test_groups_that_a_suite_names_anew_are_not_taken_for_held_out(sample_dataset, tiny_run):
    """The run held out by the dataset's names; by other names, other images are tested."""
    values = Suite.of_labels(0.3).model_dump()
    values["name"] = "regrouped"
    values["datasets"]["data"]["group"] = {"column": "image_id", "pattern": r"(.)$"}
    ready = prepare(Suite.model_validate(values), {"data": sample_dataset})
    held = np.concatenate([held_out(ready.datasets[0], b, 0.3) for b in range(ready.datasets[0].blocks)])
    result = evaluate(ready, [open_contender(str(tiny_run))], probes=["knn"])
    assert result.unseen == {"sample": bool(held[ready.splits[0].test].all())} == {"sample": False}
    assert "was trained on some of these test images" in "\n".join(result.lines())
