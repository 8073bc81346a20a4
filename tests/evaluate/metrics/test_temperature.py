"""Temperature scaling finds the temperature that was put in, and lowers what it minimises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from aqqua.evaluate.metrics.calibration import reliability
from aqqua.evaluate.metrics.temperature import (
    RANGE,
    apply_temperature,
    fit_temperature,
    temperature_of_logits,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_finds_what_was_put_in(temperature):
    """Classes drawn from probabilities; the classifier states them at another temperature."""
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (20000, 5))
    honest = softmax(logits)
    truth = (honest.cumsum(axis=1) > draw.random((len(honest), 1))).argmax(axis=1)
    stated = softmax(logits * temperature)
    found = fit_temperature(truth, stated)
    assert found == pytest.approx(temperature, rel=0.04)
    mended = apply_temperature(stated, found)
    assert mended.dtype == np.float32
    np.testing.assert_allclose(mended, honest, atol=0.02)
    assert reliability(truth, mended).expected_calibration_error < 0.012


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 2**32))
def test_no_neighbour_is_more_likely(n, classes, seed):
    draw = np.random.default_rng(seed)
    truth, stated = draw.integers(0, classes, n), draw.dirichlet(np.ones(classes), n)
    found = fit_temperature(truth, stated)
    assert RANGE[0] <= found <= RANGE[1]

    def loss(temperature: float) -> float:
        return log_loss(
            truth, softmax(np.log(np.maximum(stated, 1e-12)) / temperature), labels=range(classes)
        )

    for other in (found * 0.98, found * 1.02):
        if RANGE[0] <= other <= RANGE[1]:
            assert loss(found) <= loss(other) + 1e-9


def test_ends_of_the_range():
    assert fit_temperature(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])) == RANGE[0]  # all right
    assert fit_temperature(np.array([1, 0]), np.array([[0.9, 0.1], [0.2, 0.8]])) == RANGE[1]  # all wrong


def test_order_and_certainty_stay():
    stated = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    for temperature in (0.3, 1.0, 4.0):
        found = apply_temperature(stated, temperature)
        assert (np.diff(found[0]) < 0).all()
        assert found[1].argmax() == 0
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(apply_temperature(stated, 1.0), stated, atol=1e-6)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        apply_temperature(stated, 0)
    with pytest.raises(ValueError, match="temperature must be above 0, got nan"):
        apply_temperature(stated, float("nan"))


def drawn(scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that were drawn from the softmax of logits, and the logits times `scale`."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (8000, 4))
    gumbel = draw.gumbel(size=logits.shape)
    return (logits + gumbel).argmax(axis=1), scale * logits


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_overconfidence_is_found(scale):
    assert temperature_of_logits(*drawn(scale)) == pytest.approx(scale, rel=0.06)


def test_it_is_the_least_loss_that_torch_finds():
    label, logits = drawn(2.0)
    temperature = temperature_of_logits(label, logits)

    def loss(at):
        tensors = torch.from_numpy(logits / at), torch.from_numpy(label)
        return float(torch.nn.functional.cross_entropy(*tensors))

    assert all(loss(factor * temperature) > loss(temperature) for factor in (0.97, 1.03))


def test_where_all_is_right_the_temperature_stays_in_bounds():
    right = np.array([0, 1, 2]), np.eye(3)
    assert temperature_of_logits(*right, (0.25, 20.0)) == 0.25
    assert temperature_of_logits(*right) == RANGE[0]
