"""The linear probe: a few steps by hand, rates side by side as one by one, the best on groups held back."""

import numpy as np
import pytest
import torch
from clouds import clouds

from aqqua.evaluate.probes.linear import MOMENTUM, RATES_BATCH, Layers, Linear
from aqqua.evaluate.probes.probe import Standardised


def test_a_few_steps_by_hand():
    """Whole-batch SGD with momentum and a cosine, in NumPy and float64."""
    rows, labels, groups = clouds(5, classes=3)
    probe = Linear((0.8,), epochs=4, batch=15, min_steps=0)
    found = probe.fit(rows, labels, 3, groups, seed=2).probabilities(rows)

    x, truth = Standardised.of(rows)(rows).astype(np.float64), np.eye(3)[labels]
    weight = Layers(1, 6, 3, seed=2).weights[0].detach().numpy().astype(np.float64)
    bias, speed_w, speed_b = np.zeros(3), 0.0, 0.0

    def softmax():
        logits = np.exp(x @ weight.T + bias)
        return logits / logits.sum(axis=1, keepdims=True)

    for step in range(4):
        rate = 0.8 * 15 / RATES_BATCH * (1 + np.cos(np.pi * step / 4)) / 2
        slope = (softmax() - truth) / 15
        speed_w, speed_b = MOMENTUM * speed_w + slope.T @ x, MOMENTUM * speed_b + slope.sum(axis=0)
        weight, bias = weight - rate * speed_w, bias - rate * speed_b
    np.testing.assert_allclose(found, softmax(), atol=1e-5)


def test_rates_side_by_side_are_rates_one_by_one():
    rows, labels, _ = clouds(20, spread=1.5)
    x, y = torch.from_numpy(Standardised.of(rows)(rows)), torch.from_numpy(labels)
    probe = Linear(epochs=2, batch=16, min_steps=0)
    together = probe._train(x, y, (0.01, 0.5, 2.0), 4, 0, lambda _: None).probabilities(x)
    for g, rate in enumerate((0.01, 0.5, 2.0)):
        alone = probe._train(x, y, (rate,), 4, 0, lambda _: None).probabilities(x)
        torch.testing.assert_close(together[:, g], alone[:, 0], atol=1e-5, rtol=0)


def test_the_rate_that_learns_is_chosen():
    rows, labels, groups = clouds(40, spread=1.0)
    asked, truth, _ = clouds(20, seed=1, spread=1.0)
    predictor = Linear((1e-9, 0.1, 1e12), epochs=5, min_steps=50).fit(rows, labels, 4, groups, 0)
    assert predictor.rate == 0.1
    assert (predictor.probabilities(asked).argmax(axis=1) == truth).mean() > 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides(seed):
    rows, labels, groups = clouds(20, spread=2.0)
    probe = Linear((0.1,), epochs=2, min_steps=0)
    found = [probe.fit(rows, labels, 4, groups, s).probabilities(rows) for s in (seed, seed, seed + 5)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
