"""Splits as probes want them, and figures beside the classes: instruments, retrieval, the unknown."""

from types import SimpleNamespace

import numpy as np
import pytest

from aqqua.evaluate.metrics.scores import FIGURES
from aqqua.evaluate.protocol import FAMILIES, Task, judge_features, judge_few_shot, judge_probe
from aqqua.evaluate.suites.split import Split
from aqqua.taxonomy.classes import TaxonClass, lineage_of

NAMES = [f"class {n}" for n in range(8)]
N = 1600


def made(metrics, *, leak=0.0, skill=4.0, instruments=2, seed=0):
    """A task of clouds: a column for each class, and one that tells the instrument as loudly as `leak`."""
    draw = np.random.default_rng(seed)
    class_I, instrument_I = draw.integers(0, len(NAMES), N), draw.integers(0, instruments, N)
    features = draw.normal(size=(N, len(NAMES) + 1)).astype(np.float32)
    features[np.arange(N), class_I] += skill
    features[:, -1] += leak * instrument_I
    group_I = np.arange(N) // 8
    tested = group_I % 4 == 0
    rows = np.arange(N)
    split = Split(
        "sample", "sample", (), rows[~tested], rows[tested], np.arange(len(NAMES)), class_I[~tested],
        class_I[tested], {},
    )  # fmt: skip
    classes = [TaxonClass(name, None, lineage_of(["Animalia", f"P{n}"])) for n, name in enumerate(NAMES)]
    images = SimpleNamespace(
        group_I=group_I, sample_I=np.where(group_I % 2, group_I // 10, -1), instrument_I=instrument_I,
        samples=[f"s{n}" for n in range(20)],
    )  # fmt: skip
    prepared = SimpleNamespace(classes=classes, images=images, suite=SimpleNamespace(metrics=metrics))
    return Task(prepared, split), features


def test_an_image_without_a_sample_counts_with_its_group():
    task, _ = made(["classification"])
    numbers = np.arange(160)
    sample = task.samples_of(numbers)
    assert sample.min() == 0
    assert set(np.diff(np.unique(sample))) == {1}
    unknown = task.prepared.images.sample_I[numbers] < 0
    groups = numbers // 8
    for group in np.unique(groups[unknown]):
        assert len(np.unique(sample[unknown & (groups == group)])) == 1
    assert len(np.unique(sample[unknown])) == len(np.unique(groups[unknown]))
    assert not set(sample[unknown]) & set(sample[~unknown])


@pytest.mark.parametrize("metrics", [[name] for name in FAMILIES] + [list(FAMILIES)])
def test_a_suite_gets_the_figures_that_it_asks_for(metrics):
    task, features = made(metrics)
    (scores, _), *_ = judge_probe("x", "logistic", features, task).values()
    present = {
        "classification": "macro_f1", "plankton_only": "plankton_macro_f1", "calibration": "ece",
        "hierarchical": "lca_distance_edges", "quantification": "bray_curtis_cc",
    }  # fmt: skip
    assert {family for family, name in present.items() if name in scores.figures} == set(metrics)
    for name in FIGURES:
        family = next(
            (
                one
                for one, starts in FAMILIES.items()
                if (name in starts if one == "classification" else name.startswith(starts))
            ),
            None,
        )
        if name in scores.figures:
            assert family in metrics, name
    if "calibration" in metrics:
        assert scores.figures["temperature"].value > 0
        assert "ece_tempered" in scores.figures
    if "quantification" in metrics:
        assert "bray_curtis_emq" in scores.figures  # fitted on groups held back
    if "classification" in metrics:
        assert scores.figures["accuracy"].value > 0.8


def test_temperature_is_fitted_on_training_groups_alone():
    task, features = made(["calibration"])
    (before, _), *_ = judge_probe("x", "logistic", features, task).values()
    features[task.split.test] = features[task.split.test][::-1]  # other test rows
    (after, _), *_ = judge_probe("x", "logistic", features, task).values()
    assert before.figures["temperature"].value == after.figures["temperature"].value
    assert before.figures["ece"].value != after.figures["ece"].value


def test_an_instrument_that_shows_in_the_features_is_told():
    def figures(leak):
        task, features = made(["instrument_probe", "retrieval"], leak=leak)
        found = {one.probe: one.figures for one in judge_features("x", features, task)}
        assert list(found) == ["instrument_probe", "retrieval"]
        return found

    hidden, shown = figures(0.0), figures(8.0)
    told = "instrument_balanced_accuracy"
    assert hidden["instrument_probe"][told].value == pytest.approx(0.5, abs=0.12)
    assert shown["instrument_probe"][told].value > 0.99
    assert shown["instrument_probe"]["instrument_chance"].value == pytest.approx(0.5, abs=0.01)
    assert hidden["retrieval"]["retrieval_recall_at_1"].value > 0.6
    assert hidden["retrieval"]["retrieval_chance"].value < 0.2


def test_more_shots_are_better_and_told_with_their_spread():
    task, features = made(["classification"], skill=2.0)
    found = judge_few_shot("x", features, task)
    assert [one.probe for one in found] == [f"few-shot n={n}" for n in (1, 5, 10, 20)]
    values = [one.figures["macro_f1"].value for one in found]
    assert values[0] < values[1] < values[3]
    assert all(0 < value < 1 for value in values)
    assert all(one.figures["macro_f1"].note.startswith("sd 0.") for one in found)


def test_one_instrument_alone_asks_nothing_of_instruments():
    task, features = made(["instrument_probe", "retrieval"], instruments=1)
    assert judge_features("x", features, task) == []


def test_classes_that_were_never_learned_stand_out():
    task, features = made(["novelty"], skill=6.0)
    (scores,) = judge_features("x", features, task)
    assert scores.probe == "novelty"
    assert scores.figures["novelty_auroc"].value > 0.8
    blind, noise = made(["novelty"], skill=0.0)
    (at_random,) = judge_features("x", noise, blind)
    assert at_random.figures["novelty_auroc"].value == pytest.approx(0.5, abs=0.15)
    assert 0 <= scores.figures["oscd"].value < at_random.figures["oscd"].value


def test_a_suite_that_asks_for_none_of_it_gets_none():
    task, features = made(["classification"])
    assert judge_features("x", features, task) == []
