"""A fine-tuned head answers for classes and for measured traits, and is asked only where it may be."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.finetune.heads import SpeciesHead, TraitHead
from aqqua.evaluate.finetune.traits import Trait
from aqqua.evaluate.learned_head import LearnedHead
from aqqua.evaluate.seen import learnt_from, not_judged
from aqqua.evaluate.suites.measured import MeasuredTrait
from aqqua.evaluate.suites.prepare import prepare
from aqqua.evaluate.suites.suite import Suite
from aqqua.store.read import Dataset
from aqqua.store.split import NAMING, held_out_rows
from aqqua.taxonomy.classes import TaxonClass, lineage_of

CALANOIDA = TaxonClass("Calanoida", 1100, lineage_of(["Animalia", "Arthropoda", "Copepoda", "Calanoida"]))
OITHONA = TaxonClass("Oithona", None, lineage_of(["Animalia", "Arthropoda", "Copepoda", "Cyclopoida"]))
HYDROZOA = TaxonClass("Hydrozoa", 1337, lineage_of(["Animalia", "Cnidaria", "Hydrozoa"]))
DETRITUS = TaxonClass("detritus", None, lineage_of([]), "detritus", False, False)
COPEPODA = TaxonClass("Copepoda", None, lineage_of(["Animalia", "Arthropoda", "Copepoda"]))
EGG = TaxonClass("egg", None, lineage_of([]), "egg")
LEARNT = (CALANOIDA, OITHONA, HYDROZOA, DETRITUS)
ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def species(classes=LEARNT, temperature=2.0):
    """A head whose logits are its features."""
    head = SpeciesHead(4, 4).eval()
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(4))
    return LearnedHead(head, classes, (), temperature, 0.2, "x" * 64)


def softmax(logits):
    weight = np.exp(logits)
    return weight / weight.sum(axis=1, keepdims=True)


def test_classes_are_joined_as_the_suite_joins_them():
    found = species().probabilities(ROWS, [COPEPODA, HYDROZOA, DETRITUS], "class", [])
    all_of = softmax(ROWS / 2)
    np.testing.assert_allclose(found[:, 0], all_of[:, 0] + all_of[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1:], all_of[:, 2:], rtol=1e-5)


def test_what_is_not_asked_for_is_shared_out_and_what_was_not_learnt_has_no_chance():
    found = species().probabilities(ROWS, [EGG, OITHONA, DETRITUS], None, [])
    np.testing.assert_allclose(found[:, 1:], softmax(ROWS[:, [1, 3]] / 2), rtol=1e-5)
    assert not found[:, 0].any()
    sure = species().probabilities(np.array([[900.0, -900, 0, 0]], np.float32), [OITHONA, DETRITUS], None, [])
    np.testing.assert_allclose(sure, [[0, 1]])  # all it is sure of is not asked for: no 0 by 0


def test_a_head_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"a class that is asked for \(egg\), got Calanoida, Oithona"):
        species().probabilities(ROWS, [EGG], None, [])


def traits():
    known = (
        Trait(trait_id="esd", unit="um", kind="continuous", log10=True, mean=2.0, std=0.5),
        Trait(trait_id="eggs", kind="binary"),
        Trait(trait_id="gut", unit="stage", kind="ordinal", levels=(0, 2, 5)),
    )
    head = TraitHead(4, known).eval()
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(4)[:3])
    return LearnedHead(head, (), known, 1.0, 0.2, "x" * 64)


def asked(trait_id, unit, kind, log10=False):
    return MeasuredTrait("traits", trait_id, unit, kind, log10, np.zeros(0, int), np.zeros(0))


def test_traits_come_in_their_units():
    head = traits()
    np.testing.assert_allclose(
        head.values(ROWS, asked("esd", "um", "continuous", True)), 10 ** (2 + ROWS[:, 0] / 2), rtol=1e-5
    )
    np.testing.assert_allclose(
        head.values(ROWS, asked("eggs", "", "binary")), 1 / (1 + np.exp(-ROWS[:, 1])), rtol=1e-5
    )
    assert set(head.values(ROWS * 9, asked("gut", "stage", "ordinal"))) <= {0, 2, 5}
    assert head.values(ROWS, asked("length", "um", "continuous")) is None


@pytest.mark.parametrize(
    ("trait", "said"),
    [
        (asked("esd", "mm", "continuous"), "must be continuous in 'um', .* got continuous in 'mm'"),
        (asked("eggs", "", "ordinal"), "must be binary in '', .* got ordinal in ''"),
    ],
)
def test_another_unit_or_kind_is_refused(trait, said):
    with pytest.raises(ValueError, match=said):
        traits().values(ROWS, trait)


def test_a_head_that_learnt_no_logarithm_is_not_judged_by_one():
    known = (Trait(trait_id="esd", unit="um", kind="continuous"),)
    head = LearnedHead(TraitHead(4, known).eval(), (), known, 1.0, 0.2, "")
    assert head.values(ROWS, asked("esd", "um", "continuous")) is not None
    with pytest.raises(ValueError, match="fine-tune with --log10 esd"):
        head.values(ROWS, asked("esd", "um", "continuous", True))


def test_what_it_learnt_from_is_counted(sample_dataset):
    dataset = Dataset.open(sample_dataset)
    ready = prepare(Suite.of_labels(0.3), {"data": sample_dataset})
    (split,) = ready.splits

    def head(share, of=dataset.manifest_sha256):
        return LearnedHead(SpeciesHead(4, 4), LEARNT, (), 1.0, share, of)

    assert learnt_from(ready, split, head(0.3)) == 0
    held = held_out_rows(dataset.table(list(NAMING)), 0.1)
    assert learnt_from(ready, split, head(0.1)) == (~held[split.test]).sum() > 0
    assert learnt_from(ready, split, head(0.0)) == len(split.test)
    assert learnt_from(ready, split, head(0.0, "f" * 64)) == 0  # of other images: nobody can tell

    def why(one):
        embedder = SimpleNamespace()  # not looked at
        return not_judged(ready, Native(embedder, "m", head=one))

    assert why(None) == why(head(0.3)) == {}
    assert why(head(0.0)) == {"sample": f"it had learnt from {len(split.test)} of the test images"}
    assert why(traits()) == {"sample": "the suite has no measured esd, eggs, gut"}
