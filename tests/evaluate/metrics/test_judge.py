"""A judgement holds each figure as its own function gives it, and tells what it cannot give."""

import json

import numpy as np
import pytest

from aqqua.evaluate.metrics.calibration import brier_M, reliability
from aqqua.evaluate.metrics.classes import count_classes
from aqqua.evaluate.metrics.correction import METHODS, fit_corrector
from aqqua.evaluate.metrics.hierarchy import hierarchical_scores, lca_distance_M, rank_accuracy
from aqqua.evaluate.metrics.judge import judge, macro_f1_margin
from aqqua.evaluate.metrics.judged import Judged, LabelSet
from aqqua.evaluate.metrics.quantification import bray_curtis, class_shares
from aqqua.evaluate.metrics.scores import FIGURES, RANKS
from aqqua.evaluate.metrics.temperature import apply_temperature, fit_temperature

# Copepoda, its egg, Calanoida, a diatom, detritus, by kingdom to species; a class that is never there.
ANCESTORS = np.array(
    [
        [0, 1, 2, -1, -1, -1, -1],
        [0, 1, 2, -1, -1, -1, -1],
        [0, 1, 2, 3, -1, -1, -1],
        [4, 5, 6, 7, -1, -1, -1],
        [-1] * 7,
        [4, 5, 6, 7, 8, 9, 10],
    ],
    np.int32,
)
LABELS = LabelSet(
    names=("Copepoda", "Copepoda (egg)", "Calanoida", "Chaetoceros", "detritus", "Navicula"),
    plankton_C=np.array([True, True, True, True, False, True]),
    ancestor_CR=ANCESTORS,
    distance_CC=np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0))),
)


def images(seed: int, n: int = 240, samples: int = 12) -> Judged:
    """Two samples in each group."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 5, n)
    weights = np.exp(draw.normal(0, 1, (n, 6)) + 2 * np.eye(6)[truth])
    sample = np.arange(n) % samples
    return Judged(truth, weights / weights.sum(axis=1, keepdims=True), sample // 2, sample)


def test_every_figure_is_that_of_its_function():
    judged, validation = images(0), images(1)
    scores = judge("model", "held-out sample", "linear", judged, LABELS, validation=validation)
    figures = {name: found.value for name, found in scores.figures.items()}
    truth, probability = judged.truth_M, judged.probability_MC
    guess = probability.argmax(axis=1)
    counts, plankton = (count_classes(truth, guess, 6, c) for c in (None, LABELS.plankton_C))
    nodes, ranks = hierarchical_scores(truth, guess, ANCESTORS), rank_accuracy(truth, guess, ANCESTORS)
    distance = lca_distance_M(truth, guess, LABELS.distance_CC)
    temperature = fit_temperature(validation.truth_M, validation.probability_MC)
    corrector = fit_corrector(validation.truth_M, validation.probability_MC)
    true = class_shares(truth, judged.sample_M, 6)
    tempered = reliability(truth, apply_temperature(probability, temperature))
    want = {
        "macro_f1": counts.macro_f1,
        "balanced_accuracy": counts.balanced_accuracy,
        "accuracy": counts.accuracy,
        "plankton_macro_f1": plankton.macro_f1,
        "plankton_balanced_accuracy": plankton.balanced_accuracy,
        "ece": reliability(truth, probability).expected_calibration_error,
        "ece_equal_mass": reliability(truth, probability, spacing="equal mass").expected_calibration_error,
        "ece_tempered": tempered.expected_calibration_error,
        "temperature": temperature,
        "brier": brier_M(truth, probability).mean(),
        "lca_distance_edges": distance.mean(),
        "lca_distance_of_mistakes_edges": distance[guess != truth].mean(),
        "hierarchical_precision": nodes.precision,
        "hierarchical_recall": nodes.recall,
        "hierarchical_f1": nodes.f1,
        **{f"accuracy_{RANKS[r]}": ranks.accuracy_R[r] for r in range(4)},
    }
    for method in METHODS:
        shares = corrector.shares(method, probability, judged.sample_M)
        want[f"bray_curtis_{method.lower()}"] = bray_curtis(true, shares).mean()
        want[f"share_error_{method.lower()}"] = np.abs(true - shares).mean()
    assert figures == pytest.approx(want)  # and no others: no true class has a family


def test_every_figure_but_the_temperature_has_an_interval_of_groups_around_it():
    scores = judge("model", "tier", "linear", images(0), LABELS, validation=images(1))
    for name, found in scores.figures.items():
        assert found.groups == 6
        if name != "temperature":
            assert found.low <= found.high
            assert found.low - 0.05 <= found.value <= found.high + 0.05
    assert (scores.images, scores.groups) == (240, 6)
    json.dumps(scores.as_dict(), allow_nan=False)


def test_the_same_seed_draws_the_same_and_groups_can_be_too_few():
    first, second = (judge("m", "t", "p", images(0), LABELS) for _ in range(2))
    assert first.as_dict() == second.as_dict()
    few = judge("m", "t", "p", images(0, samples=4), LABELS)
    assert few.figures["macro_f1"].low is None
    assert few.figures["macro_f1"].note == "too few groups for an interval: 2"


def test_without_validation_nothing_is_corrected():
    figures = judge("m", "t", "p", images(0), LABELS).figures
    assert {"bray_curtis_cc", "bray_curtis_pcc", "ece"} <= set(figures) <= set(FIGURES)
    assert not {"bray_curtis_acc", "bray_curtis_emq", "temperature", "ece_tempered"} & set(figures)


def test_classes_that_are_there_or_called_have_a_row():
    rows = judge("m", "t", "p", images(0), LABELS).classes
    called = images(0).probability_MC.argmax(axis=1)
    present = [name for c, name in enumerate(LABELS.names) if c < 5 or c in called]
    assert [row.name for row in rows] == present
    assert sum(row.images for row in rows) == sum(row.called for row in rows) == 240


def test_no_plankton_no_plankton_figures():
    judged = images(0, 48)
    detritus = Judged(np.full(48, 4), judged.probability_MC, judged.group_M, judged.sample_M)
    figures = judge("m", "t", "p", detritus, LABELS).figures
    assert "plankton_macro_f1" not in figures
    assert "accuracy_kingdom" not in figures


def test_contenders_are_compared_on_the_same_draws():
    first = images(0)
    flat = np.full((240, 6), 0.1) + 0.4 * np.eye(6)[first.probability_MC.argmax(axis=1)]
    flat[:60] = np.eye(6)[0]
    second = Judged(first.truth_M, flat, first.group_M, first.sample_M)
    ahead = macro_f1_margin(first.called, second.called)
    behind = macro_f1_margin(second.called, first.called)
    scores = [judge("m", "t", "p", one, LABELS).figures["macro_f1"].value for one in (first, second)]
    assert ahead.value == pytest.approx(scores[0] - scores[1])
    assert 0 < ahead.low < ahead.high
    assert (behind.low, behind.high) == pytest.approx((-ahead.high, -ahead.low))
    with pytest.raises(ValueError, match="must be judged on the same images, got another truth_M"):
        macro_f1_margin(first.called, images(1).called)


def test_bad_input():
    judged = images(0)
    rest = (judged.probability_MC, judged.group_M, judged.sample_M)
    with pytest.raises(ValueError, match="truth must be from 0 to 5, got 6 in row 0"):
        Judged(np.full(240, 6), *rest)
    with pytest.raises(ValueError, match="got 239 of truth, 240 of probabilities"):
        Judged(judged.truth_M[1:], *rest)
    with pytest.raises(ValueError, match="groups must be numbered from 0 without gaps"):
        Judged(judged.truth_M, judged.probability_MC, judged.group_M + 1, judged.sample_M)
    other = Judged(judged.truth_M, np.eye(5)[judged.truth_M], judged.group_M, judged.sample_M)
    with pytest.raises(ValueError, match="must be of the 6 classes of the label set, got 5"):
        judge("m", "t", "p", other, LABELS)
    with pytest.raises(ValueError, match=r"ancestors must have the shape \(6, 7\), got \(6, 4\)"):
        LabelSet(LABELS.names, LABELS.plankton_C, ANCESTORS[:, :4], LABELS.distance_CC)
