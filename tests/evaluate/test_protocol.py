"""Splits as probes want them, and figures beside the classes: instruments, retrieval, the unknown."""

from types import SimpleNamespace

import numpy as np
import pytest

from aqqua.evaluate import asking, protocol
from aqqua.evaluate.metrics.scores import FIGURES
from aqqua.evaluate.protocol import CLASS_FAMILIES, Task, judge_features, judge_few_shot, judge_probe
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
        class_I[tested], {}, tested.astype(np.int8),
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


@pytest.mark.parametrize("metrics", [[name] for name in CLASS_FAMILIES] + [list(CLASS_FAMILIES)])
def test_a_suite_gets_the_figures_that_it_asks_for(metrics):
    task, features = made(metrics)
    (scores, _), *_ = judge_probe("x", "logistic", features, task).values()
    present = {
        "classification": "macro_f1", "plankton_only": "plankton_macro_f1", "calibration": "ece",
        "hierarchical": "lca_distance_edges", "quantification": "bray_curtis_cc",
    }  # fmt: skip
    assert {family for family, name in present.items() if name in scores.figures} == set(metrics)
    assert {FIGURES[name].family for name in scores.figures} == set(metrics)
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


@pytest.mark.parametrize(("probe", "fits"), [("logistic", 1), ("boosting", 1), ("knn", 2)])
def test_a_probe_that_chooses_a_setting_is_fitted_once_for_its_temperature(probe, fits, monkeypatch):
    task, features = made(["calibration"])
    asked = []
    monkeypatch.setattr(protocol, "ask", lambda *given: asked.append(given) or asking.ask(*given))
    scores = [one for one, _ in judge_probe("x", probe, features, task).values()]
    assert len(asked) == fits
    for one in scores:
        assert 0.05 < one.figures["temperature"].value < 20
        assert one.figures["ece_tempered"].value < one.figures["ece"].value + 0.02


@pytest.mark.parametrize("probe", ["logistic", "linear", "boosting"])
def test_rows_held_back_are_those_of_the_protocol_and_were_not_learnt_from(probe):
    task, features = made(["calibration"], skill=0.0)  # noise: what was learnt is known by heart
    split = task.split
    held = asking.ask(
        probe, features[split.train], split.train_label, task.classes, task.groups_N, features[:1], 0
    ).held
    np.testing.assert_array_equal(held.rows_N, task.held_N)
    assert held.found_HC.shape == (held.rows_N.sum(), task.classes)
    np.testing.assert_allclose(held.found_HC.sum(axis=1), 1, rtol=1e-5)
    right = (held.found_HC.argmax(axis=1) == split.train_label[held.rows_N]).mean()
    assert right < 0.3  # chance is 1 of 8


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
