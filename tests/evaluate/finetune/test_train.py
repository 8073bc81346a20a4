"""Fine-tuning: it learns in every mode, stops, keeps the best, repeats by seed, and says when it breaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from aqqua.evaluate.features import all_features, fingerprint
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.objective import SpeciesObjective, TraitObjective
from aqqua.evaluate.finetune.train import Finetuned, finetune
from aqqua.evaluate.finetune.traits import define_trait

QUICK = {"batch_images": 32, "lora": {"rank": 4}, "validation_share": 0.2}
RATES = {"head_lr": 0.01, "backbone_lr": 0.003}


def learn(made, embedder, rows=None, advance=None, **options) -> Finetuned:
    config = FinetuneConfig(**{**QUICK, "optim": RATES, **options})
    rows = made.rows if rows is None else rows
    objective = SpeciesObjective(made.label_N[rows], 2, config)
    watched = {} if advance is None else {"advance": advance}
    return finetune(embedder, made.dataset, rows, objective, config, **watched)


def accuracy(made, embedder, learnt: Finetuned, rows: np.ndarray) -> float:
    """On images as they are, through the embedder that predicts."""
    seeing = replace(embedder, backbone=learnt.backbone, pooling="cls+mean")
    features = torch.from_numpy(all_features(seeing, made.dataset)[rows])
    return float((learnt.head(features).argmax(1).numpy() == made.label_N[rows]).mean())


@pytest.mark.parametrize(("mode", "epochs"), [("frozen", 8), ("lora", 8), ("full", 10)])
def test_disks_and_rods_are_learnt(disks_and_rods, embedder, mode, epochs):
    before = fingerprint(embedder.backbone)
    rows = disks_and_rods.rows[:128]
    learnt = learn(disks_and_rods, embedder, rows, mode=mode, epochs=epochs)
    assert accuracy(disks_and_rods, embedder, learnt, disks_and_rods.rows[128:]) >= 0.85
    assert fingerprint(embedder.backbone) == before  # the one given is left as it was
    assert (fingerprint(learnt.backbone) == before) == (mode == "frozen")
    assert set(learnt.backbone.state_dict()) == set(embedder.backbone.state_dict())
    history = learnt.metrics["history"]
    assert learnt.metrics["score"] == max(one["score"] for one in history)
    assert 0.25 <= learnt.temperature <= 20
    assert learnt.metrics["train_images"] + learnt.metrics["validation_images"] == 128


def test_frozen_is_logistic_regression_on_the_same_features(disks_and_rods, embedder):
    learnt = learn(disks_and_rods, embedder, mode="frozen", epochs=60, patience_epochs=60, turn="none")
    features = all_features(replace(embedder, pooling="cls+mean"), disks_and_rods.dataset)
    train = np.setdiff1d(disks_and_rods.rows, learnt.validation)
    seen = ((torch.from_numpy(features) - learnt.head.mean_D) / learnt.head.scale_D).numpy()
    judge = LogisticRegression(C=1.0, max_iter=2000).fit(seen[train], disks_and_rods.label_N[train])
    ours = learnt.head(torch.from_numpy(features)).detach().argmax(1).numpy()
    theirs = judge.predict(seen)
    assert (ours == theirs).mean() >= 0.95


def test_the_validation_groups_are_whole_and_apart(disks_and_rods, embedder):
    learnt = learn(disks_and_rods, embedder, mode="frozen", epochs=1)
    groups = np.array(disks_and_rods.dataset.table(["group"])["group"].to_pylist())
    inside = np.isin(disks_and_rods.rows, learnt.validation)
    assert not set(groups[inside]) & set(groups[~inside])
    assert 0.15 < inside.mean() < 0.35


def test_the_same_seed_gives_the_same_weights_and_another_does_not(disks_and_rods, embedder):
    runs = [learn(disks_and_rods, embedder, mode="lora", epochs=2, seed=seed) for seed in (0, 0, 1)]
    prints = [(fingerprint(run.backbone), fingerprint(run.head)) for run in runs]
    assert prints[0] == prints[1] != prints[2]


def test_it_stops_early_and_keeps_the_best_epoch(disks_and_rods, embedder):
    """With the labels of validation reversed, learning makes the score worse from the first epoch on."""
    config = FinetuneConfig(**QUICK, mode="frozen", epochs=50, patience_epochs=3, optim=RATES)
    apart = learn(disks_and_rods, embedder, mode="frozen", epochs=1).validation
    label = disks_and_rods.label_N
    label[apart] = 1 - label[apart]
    said: list[tuple[int, int, str]] = []
    objective = SpeciesObjective(label, 2, config)
    learnt = finetune(
        embedder, disks_and_rods.dataset, disks_and_rods.rows, objective, config,
        lambda *now: said.append(now),
    )  # fmt: skip
    if not np.array_equal(np.sort(learnt.validation), np.sort(apart)):
        pytest.fail("the split must depend on groups and seed alone where no class would be lost")
    epochs, best = learnt.metrics["epochs"], learnt.metrics["best_epoch"]
    assert epochs == best + 3 < 50
    assert learnt.metrics["history"][best - 1]["score"] == learnt.metrics["score"]
    features = all_features(replace(embedder, pooling="cls+mean"), disks_and_rods.dataset)
    outputs = learnt.head(torch.from_numpy(features[learnt.validation]))
    assert objective.score(learnt.head, outputs, learnt.validation) == learnt.metrics["score"]
    assert [done for done, _, _ in said] == sorted(done for done, _, _ in said)
    assert "macro-F1" in said[-1][2]


def test_a_loss_that_is_not_finite_ends_it_with_what_to_do(disks_and_rods, embedder):
    with torch.no_grad():
        embedder.backbone.blocks[0].mlp.fc1.weight[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=r"must be finite, got loss nan .* lower optim\.head_lr"):
        learn(disks_and_rods, embedder, mode="full", epochs=1)


def test_traits_of_all_kinds_are_learnt_together_with_values_missing(disks_and_rods, embedder):
    length = np.array([one.length_px for one in disks_and_rods.shapes])
    value = np.stack([length, disks_and_rods.label_N, np.digitize(length, [22, 31])], axis=1).astype(float)
    value[::5, 0] = value[1::5, 1] = value[2::5, 2] = np.nan
    names = (("length", "px"), ("rod", ""), ("size", "level"))
    traits = tuple(define_trait(name, value[:, t], unit) for t, (name, unit) in enumerate(names))
    assert [trait.kind for trait in traits] == ["continuous", "binary", "ordinal"]
    config = FinetuneConfig(**QUICK, mode="frozen", epochs=20, patience_epochs=20, optim=RATES)
    learnt = finetune(
        embedder, disks_and_rods.dataset, disks_and_rods.rows, TraitObjective(value, traits), config
    )
    assert learnt.metrics["scores"]["rod"] > 0.9
    assert learnt.metrics["scores"]["length"] > 0.3
    assert learnt.traits[0].error_low < 0 < learnt.traits[0].error_high
    assert learnt.thresholds is None
    assert learnt.temperature == 1


def test_with_too_few_values_to_score_it_learns_on_and_stops_by_the_loss(disks_and_rods, embedder):
    config = FinetuneConfig(**QUICK, mode="frozen", epochs=6, patience_epochs=2, optim=RATES)
    apart = learn(disks_and_rods, embedder, mode="frozen", epochs=1).validation
    value = np.array([[one.length_px] for one in disks_and_rods.shapes], float)
    value[apart[4:]] = np.nan

    def traits() -> TraitObjective:
        return TraitObjective(value, (define_trait("length", value[:, 0], "px"),))

    learnt = finetune(embedder, disks_and_rods.dataset, disks_and_rods.rows, traits(), config)
    np.testing.assert_array_equal(learnt.validation, apart)
    assert learnt.metrics["score_name"] == "minus the loss"
    assert learnt.metrics["best_epoch"] > 1
    assert learnt.metrics["score"] == max(one["score"] for one in learnt.metrics["history"]) < 0
    value[apart] = np.nan
    with pytest.raises(ValueError, match="a validation image must have a value of a trait, got none in"):
        finetune(embedder, disks_and_rods.dataset, disks_and_rods.rows, traits(), config)
