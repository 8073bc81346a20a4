"""Calibration: temperatures that are known, thresholds by hand, errors of traits."""

import numpy as np
import pytest
import torch

from aqqua.evaluate.finetune.calibrate import (
    TEMPERATURES,
    fit_temperature,
    fit_thresholds,
    negative_log_likelihood,
    with_errors,
)
from aqqua.evaluate.finetune.traits import Trait


def drawn(scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits times `scale` of labels that were drawn from the softmax of the logits as they were."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (8000, 4))
    gumbel = draw.gumbel(size=logits.shape)
    return scale * logits, (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_overconfidence_is_found(scale):
    assert fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.06)


def test_it_is_the_least_loss_that_torch_finds():
    logits, label = drawn(2.0)
    temperature = fit_temperature(logits, label)
    at = negative_log_likelihood(logits / temperature, label)
    tensors = torch.from_numpy(logits / temperature), torch.from_numpy(label)
    assert at == pytest.approx(float(torch.nn.functional.cross_entropy(*tensors)))
    for factor in (0.97, 1.03):
        assert negative_log_likelihood(logits / (factor * temperature), label) > at


def test_where_all_is_right_the_temperature_stays_in_bounds():
    assert fit_temperature(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])) == pytest.approx(TEMPERATURES[0])


def test_thresholds_by_hand():
    """Class 0 is right at .9, .8, .7 and wrong at .6, .5; class 1 is always right; nothing is of class 2."""
    score = [0.9, 0.8, 0.7, 0.6, 0.5]
    first = [[s, (1 - s) / 2, (1 - s) / 2] for s in score]
    probabilities = np.array([*first, [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    label = np.array([0, 0, 0, 1, 1, 1, 1])
    assert fit_thresholds(probabilities, label) == (0.7, 0.0, 0.0)


def test_errors_of_a_trait():
    trait = Trait(trait_id="t", kind="continuous")
    truth = np.append(np.linspace(-1, 1, 201), np.nan)
    known = with_errors(trait, truth, np.zeros(202))
    assert (known.error_low, known.error_high) == pytest.approx((-0.95, 0.95))
    assert with_errors(trait, truth[:10], np.zeros(10)) == trait
    binary = Trait(trait_id="t", kind="binary")
    assert with_errors(binary, truth, np.zeros(202)) == binary
