"""A classifier on disk: the same answers after a round trip, and no stranger's file gets in."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aqqua.downstream.classifier import BACKBONE, FACTS, HEAD, Classifier, load_classifier, save_classifier
from aqqua.evaluate.finetune.heads import TraitHead
from aqqua.evaluate.finetune.traits import Trait
from aqqua.evaluate.models import load_embedder

TRAITS = (
    Trait(trait_id="length", unit="um", kind="continuous", log10=True, mean=1.5, std=0.2, error_low=-0.1),
    Trait(trait_id="gut", kind="ordinal", levels=(0, 1, 3)),
)


def of_traits(classifier: Classifier) -> Classifier:
    head = TraitHead(64, TRAITS).eval()
    with torch.no_grad():
        head.cuts["1"].copy_(torch.tensor([0.3, -0.2]))
    return Classifier("traits", classifier.embedder, head, (), TRAITS, 1.0, None, {})


def test_the_answers_are_the_same_after_a_round_trip(classifier, shapes_of, tmp_path):
    save_classifier(classifier, tmp_path / "deep" / "c")
    again = load_classifier(tmp_path / "deep" / "c")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["c"]
    assert sorted(p.name for p in (tmp_path / "deep" / "c").iterdir()) == [BACKBONE, FACTS, HEAD]
    np.testing.assert_array_equal(again.probabilities(shapes_of, 1), classifier.probabilities(shapes_of, 1))
    for name in ("name", "classes", "traits", "temperature", "thresholds", "facts", "sha256"):
        assert getattr(again, name) == getattr(classifier, name), name
    assert again.embedder.views == classifier.embedder.views
    assert again.embedder.pooling == "cls+mean"


def test_probabilities_are_of_the_logits_over_the_temperature(classifier, shapes_of):
    found = classifier.probabilities(shapes_of, 0)
    logits = classifier.outputs(shapes_of, 0).double() / 1.5
    np.testing.assert_allclose(found, logits.softmax(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_traits_come_back(classifier, shapes_of, tmp_path):
    made = of_traits(classifier)
    save_classifier(made, tmp_path / "c")
    again = load_classifier(tmp_path / "c")
    assert again.traits == TRAITS
    assert torch.equal(again.head.cuts["1"], made.head.cuts["1"])
    assert torch.equal(again.outputs(shapes_of, 0), made.outputs(shapes_of, 0))


def test_the_backbone_is_a_model_of_its_own(classifier, tmp_path):
    save_classifier(classifier, tmp_path / "c")
    embedder = load_embedder(tmp_path / "c" / BACKBONE)
    theirs = classifier.embedder.backbone.state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in embedder.backbone.state_dict().items())


def test_a_used_name_is_refused_and_a_failed_save_leaves_nothing(classifier, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="must not exist yet"):
        save_classifier(classifier, tmp_path / "there")
    bad = replace(classifier, name="")
    with pytest.raises(ValueError, match="name"):
        save_classifier(bad, tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def change_json(folder, **values) -> None:
    file = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**file, **values}))


def change_head(folder, change) -> None:
    """Another head, with its checksum put right: what a forger would do."""
    state = change(load_file(folder / HEAD))
    save_file(state, folder / HEAD)
    digest = hashlib.sha256((folder / HEAD).read_bytes()).hexdigest()
    sums = json.loads((folder / FACTS).read_text())["sha256"]
    change_json(folder, sha256={**sums, HEAD: digest})


HOSTILE = {
    "no folder": (lambda f: shutil.rmtree(f), "must hold classifier.json"),
    "no head": (lambda f: (f / HEAD).unlink(), "must hold head.safetensors, got none"),
    "torn backbone": (lambda f: (f / BACKBONE).write_bytes(b"torn"), "must have the SHA-256"),
    "no JSON": (lambda f: (f / FACTS).write_text("{"), "got at the file"),
    "pickle": (lambda f: (f / FACTS).write_bytes(b"\x80\x04."), "got at the file"),
    "unknown key": (lambda f: change_json(f, command="rm"), "got at command: Extra inputs"),
    "later version": (lambda f: change_json(f, version=2), "got at version"),
    "temperature": (lambda f: change_json(f, temperature=0), "got at temperature"),
    "NaN": (lambda f: change_json(f, temperature=float("nan")), "got at"),
    "no classes": (lambda f: change_json(f, classes=[]), "either classes or traits"),
    "class": (lambda f: change_json(f, classes=[{"name": "a"}]), "got at classes.0.aphia_id"),
    "thresholds": (lambda f: change_json(f, thresholds=[0.5]), "a threshold for each of 3 classes, got 1"),
    "shape": (
        lambda f: change_head(f, lambda s: {**s, "linear.bias": torch.zeros(4)}),
        r"got linear.bias of \(\(4,\)",
    ),
    "more": (lambda f: change_head(f, lambda s: {**s, "more": torch.zeros(1)}), "got more of"),
    "type": (lambda f: change_head(f, lambda s: {**s, "linear.bias": torch.zeros(3).int()}), "int32"),
    "inf": (lambda f: change_head(f, lambda s: {**s, "mean_D": s["mean_D"] / 0}), "finite numbers.* mean_D"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_folder_gets_one_clear_sentence(classifier, tmp_path, what):
    save_classifier(classifier, tmp_path / "c")
    change, said = HOSTILE[what]
    change(tmp_path / "c")
    with pytest.raises(ValueError, match=said) as caught:
        load_classifier(tmp_path / "c")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "c") in str(caught.value)
