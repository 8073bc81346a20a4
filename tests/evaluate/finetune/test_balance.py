"""Balance: classes weigh the same, are shown as often, or have their prior taken out."""

import numpy as np
import pytest
import torch

from aqqua.evaluate.features import all_features
from aqqua.evaluate.finetune.balance import MOST_COPIES, copies, inverse_frequency, log_prior
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.objective import SpeciesObjective
from aqqua.evaluate.finetune.train import finetune

LABELS = np.repeat([0, 1, 2], [80, 15, 5])


def test_classes_weigh_the_same_and_an_image_one_on_average():
    weight = inverse_frequency(LABELS, 4)
    totals = np.bincount(LABELS, weight[LABELS], minlength=4)
    np.testing.assert_allclose(totals, [100 / 3] * 3 + [0])
    assert weight[LABELS].mean() == pytest.approx(1)


def test_the_prior_is_the_share_of_images():
    np.testing.assert_allclose(np.exp(log_prior(LABELS, 3)), [0.8, 0.15, 0.05])
    assert np.isfinite(log_prior(LABELS, 4)).all()


def test_copies_are_the_weight_on_average_and_drawn_by_image_and_epoch():
    weight, keys = np.tile([0.25, 1.0, 2.5], 400), np.arange(1200, dtype=np.uint64)
    shown = [copies(weight, keys, 0, epoch) for epoch in range(20)]
    for at, wanted in enumerate((0.25, 1.0, 2.5)):
        assert np.mean([one[at::3].mean() for one in shown]) == pytest.approx(wanted, rel=0.03)
    assert set(np.concatenate(shown)[1::3]) == {1}
    np.testing.assert_array_equal(shown[3], copies(weight, keys, 0, 3))
    assert (shown[3] != shown[4]).any()
    backwards = copies(weight[::-1], keys[::-1], 0, 3)
    np.testing.assert_array_equal(backwards[::-1], shown[3])  # the order of the images does not matter
    assert copies(np.array([1e6]), keys[:1], 0, 0).tolist() == [MOST_COPIES]


def test_every_balance_finds_more_of_the_rare_class(disks_and_rods, embedder):
    """Where features say nothing of the label, a head answers the common class, unless it is balanced."""
    label = (np.random.default_rng(0).random(160) < 0.15).astype(np.int64)
    called = {}
    for balance in ("none", "weights", "sampler", "logit_adjustment"):
        config = FinetuneConfig(
            mode="frozen", pooling="cls", epochs=1, batch_images=8, balance=balance,
            optim={"head_lr": 0.02, "warmup_share": 0},
        )  # fmt: skip
        objective = SpeciesObjective(label, 2, config)
        learnt = finetune(embedder, disks_and_rods.dataset, disks_and_rods.rows, objective, config)
        features = torch.from_numpy(all_features(embedder, disks_and_rods.dataset))
        called[balance] = int((learnt.head(features).argmax(dim=1) == 1).sum())
    none = called.pop("none")
    assert min(called.values()) > none + 10, (none, called)
