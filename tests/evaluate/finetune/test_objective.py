"""Objectives: losses by hand, and scores that are scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, r2_score

from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.objective import SpeciesObjective, TraitObjective
from aqqua.evaluate.finetune.traits import define_trait

LABELS = np.repeat([0, 1, 2], [16, 3, 1])
INDEX = np.arange(20)


def loss_of(out: torch.Tensor, **options) -> np.ndarray:
    objective = SpeciesObjective(LABELS, 3, FinetuneConfig(**options))
    objective.learn_from(INDEX)
    return objective.loss(objective.make_head(4), out, INDEX).numpy()


def test_the_loss_of_each_balance():
    out = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3))).float()
    log_p = out.log_softmax(dim=1).numpy()[INDEX, LABELS]
    np.testing.assert_allclose(loss_of(out), -log_p, rtol=1e-5)
    np.testing.assert_allclose(loss_of(out, balance="sampler"), -log_p, rtol=1e-5)
    weight = (20 / 3 / np.array([16, 3, 1]))[LABELS]
    np.testing.assert_allclose(loss_of(out, balance="weights"), -log_p * weight, rtol=1e-5)
    prior = np.log([0.8, 0.15, 0.05])
    shifted = (out + 0.5 * torch.from_numpy(prior).float()).log_softmax(dim=1).numpy()[INDEX, LABELS]
    adjusted = loss_of(out, balance="logit_adjustment", adjustment_tau=0.5)
    np.testing.assert_allclose(adjusted, -shifted, rtol=1e-5)
    smooth = 0.9 * -log_p - 0.1 * out.log_softmax(dim=1).numpy().mean(axis=1)
    np.testing.assert_allclose(loss_of(out, label_smoothing=0.1), smooth, rtol=1e-5)


def test_only_the_sampler_repeats_and_frequencies_are_of_the_training_images():
    for balance in ("none", "weights", "logit_adjustment"):
        objective = SpeciesObjective(LABELS, 3, FinetuneConfig(balance=balance))
        objective.learn_from(INDEX)
        assert objective.repeats() is None
    objective = SpeciesObjective(LABELS, 3, FinetuneConfig(balance="sampler"))
    objective.learn_from(np.array([0, 1, 16, 19]))  # two of class 0, one each of 1 and 2
    np.testing.assert_allclose(objective.repeats()[[0, 16, 19]], [4 / 6, 4 / 3, 4 / 3])


def test_macro_f1_is_scikit_learns_over_the_classes_that_occur():
    out = torch.from_numpy(np.random.default_rng(1).normal(size=(19, 3))).float()
    objective = SpeciesObjective(LABELS, 3, FinetuneConfig())
    wanted = f1_score(LABELS[:19], out.argmax(1), labels=[0, 1], average="macro")
    assert objective.score(objective.make_head(4), out, INDEX[:19]) == pytest.approx(wanted)


def few_values() -> TraitObjective:
    """Forty images; of the last twenty, four have a value."""
    value = np.full((40, 1), np.nan)
    value[:24, 0] = np.arange(24)
    return TraitObjective(value, (define_trait("a", value[:, 0], "", "continuous"),))


def test_too_few_values_are_scored_by_their_loss():
    objective, last = few_values(), np.arange(20, 40)
    objective.stop_by(last)
    assert objective.score_name == "minus the loss"
    head, draw = objective.make_head(4), np.random.default_rng(3)
    out = torch.from_numpy(draw.normal(size=(20, 1))).float()
    wanted = -float(((out[:4, 0] - objective.coded_NT[20:24, 0]) ** 2 / 2).mean())
    assert objective.score(head, out, last) == pytest.approx(wanted)
    right = torch.nan_to_num(objective.coded_NT[20:])
    assert objective.score(head, right, last) == 0 > objective.score(head, out, last)
    objective = few_values()
    objective.stop_by(np.arange(24))
    assert objective.score_name == "mean R² or AP"


def test_no_value_to_stop_by_is_refused():
    with pytest.raises(ValueError, match=r"a validation image must have a value .* got none in 10 images"):
        few_values().stop_by(np.arange(30, 40))


def test_scores_of_traits():
    draw = np.random.default_rng(2)
    value = np.stack([draw.normal(5, 2, 40), draw.integers(0, 2, 40), np.full(40, np.nan)], axis=1)
    value[3, 0] = np.nan
    value[:3, 2] = 1, 2, 3
    traits = tuple(
        define_trait(name, value[:, t], "", kind)
        for t, (name, kind) in enumerate([("a", "continuous"), ("b", "binary"), ("c", "continuous")])
    )
    objective = TraitObjective(value, traits)
    head, out = objective.make_head(4), torch.from_numpy(draw.normal(size=(40, 3))).float()
    scores, known = objective.scores(head, out, np.arange(40)), ~np.isnan(value[:, 0])
    answer = traits[0].decode(out[:, 0].numpy().astype(float))
    assert scores["a"] == pytest.approx(r2_score(value[known, 0], answer[known]), abs=1e-5)
    assert scores["b"] == pytest.approx(average_precision_score(value[:, 1], out[:, 1]))
    assert "c" not in scores  # three values say nothing
    assert objective.score(head, out, np.arange(40)) == pytest.approx((scores["a"] + scores["b"]) / 2)
