"""Corrected shares: equal to quapy's, exact where the answer is known, better than counting."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin

from aqqua.evaluate.metrics.correction import METHODS, expectation_maximisation, fit_corrector
from aqqua.evaluate.metrics.quantification import bray_curtis


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose input are its probabilities."""

    def __init__(self, classes: int = 2):
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, _x: np.ndarray, _y: np.ndarray) -> "Given":
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


def observed(draw: np.random.Generator, share: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and honest probabilities, made under equal shares, of a classifier that often errs."""
    classes = len(share)
    truth = draw.choice(classes, n, p=share)
    weights = np.exp(draw.normal(0, 1, (n, classes)) + 2 * np.eye(classes)[truth])
    return truth, weights / weights.sum(axis=1, keepdims=True)


def quapy_shares(method: str, classes: int, fit: tuple, judged: np.ndarray) -> np.ndarray:
    from quapy.method import aggregative

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a split that a given classifier does not need, and of rounds
        model = getattr(aggregative, method)(Given(classes), fit_classifier=False)
        model.fit(fit[1], fit[0])
        return model.predict(judged)


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 2**32))
def test_as_quapy(classes, n, seed):
    draw = np.random.default_rng(seed)
    fit = observed(draw, np.full(classes, 1 / classes), 400)
    _, judged = observed(draw, draw.dirichlet(np.ones(classes)), n)
    corrector, sample = fit_corrector(*fit), np.zeros(n, int)
    for method in METHODS:
        [ours] = corrector.shares(method, judged, sample)
        theirs = quapy_shares(method, classes, fit, judged)
        assert ours.sum() == pytest.approx(1)
        assert (ours >= 0).all()
        if method in ("CC", "PCC", "EMQ"):
            np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=method)
        else:  # quapy minimises the same distance, by finite differences: no nearer than ours
            rate = corrector.called_CC if method == "ACC" else corrector.mean_CC
            [raw] = corrector.shares("CC" if method == "ACC" else "PCC", judged, sample)
            assert np.linalg.norm(rate @ ours - raw) <= np.linalg.norm(rate @ theirs - raw) + 1e-7
            np.testing.assert_allclose(ours, theirs, atol=5e-3, err_msg=method)


def test_error_rates_as_quapy_with_a_class_without_rows():
    from quapy.method.aggregative import ACC, PACC

    draw = np.random.default_rng(0)
    truth, probability = observed(draw, np.array([0.5, 0.5, 0, 0]), 200)
    found = fit_corrector(truth, probability)
    want = ACC.getPteCondEstim(np.arange(4), truth, probability.argmax(axis=1))
    np.testing.assert_allclose(found.called_CC, want)
    np.testing.assert_allclose(found.mean_CC, PACC.getPteCondEstim(np.arange(4), truth, probability))
    np.testing.assert_allclose(found.called_CC[:, 3], [0, 0, 0, 1])


def test_the_adjustment_inverts_known_errors_exactly():
    """Of class 0, 30 % are called 1; a sample of equal shares looks like 35 : 65 and is put right."""
    truth = np.repeat([0, 1], [10, 10])
    called = np.where(np.arange(20) < 7, 0, 1)
    corrector = fit_corrector(truth, np.eye(2)[called])
    sample = np.zeros(20, int)
    np.testing.assert_allclose(corrector.shares("CC", np.eye(2)[called], sample), [[0.35, 0.65]])
    for method in ("ACC", "PACC"):
        np.testing.assert_allclose(corrector.shares(method, np.eye(2)[called], sample), [[0.5, 0.5]])
    # More 0 than its recall can explain: the nearest possible answer is all of class 0.
    beyond = corrector.shares("ACC", np.eye(2)[[0] * 9 + [1]], np.zeros(10, int))
    np.testing.assert_allclose(beyond, [[1, 0]], atol=1e-9)


def test_corrections_beat_counting_when_shares_shift():
    draw = np.random.default_rng(0)
    corrector = fit_corrector(*observed(draw, np.full(4, 0.25), 4000))
    true = draw.dirichlet(np.ones(4), 12)
    parts = [observed(draw, share, 800)[1] for share in true]
    judged, sample = np.concatenate(parts), np.repeat(np.arange(12), 800)
    error = {m: bray_curtis(true, corrector.shares(m, judged, sample)).mean() for m in METHODS}
    for corrected, counted in (("ACC", "CC"), ("PACC", "PCC"), ("EMQ", "PCC")):
        assert error[corrected] < error[counted] / 2


def test_a_hundred_classes_with_classes_never_called():
    draw = np.random.default_rng(0)
    truth, probability = observed(draw, draw.dirichlet(np.full(100, 0.2)), 2000)
    corrector = fit_corrector(truth, probability)
    for method in METHODS:
        found = corrector.shares(method, probability, np.arange(2000) % 3)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert (found >= 0).all()


def test_expectation_maximisation_takes_certain_rows_as_they_are():
    found = expectation_maximisation(np.array([0.5, 0.5, 0.0]), np.eye(3)[[0, 0, 1, 2]])
    np.testing.assert_allclose(found, [0.5, 0.25, 0.25])


def test_bad_input():
    corrector = fit_corrector(np.array([0, 1]), np.eye(2))
    with pytest.raises(ValueError, match="probabilities must be of 2 classes, got 3"):
        corrector.shares("ACC", np.eye(3), np.zeros(3, int))
    with pytest.raises(ValueError, match="must be one of CC, PCC, ACC, PACC, EMQ, got HDy"):
        corrector.shares("HDy", np.eye(2), np.zeros(2, int))
    with pytest.raises(ValueError, match="truth must be from 0 to 1, got 2 in row 1"):
        fit_corrector(np.array([0, 2]), np.eye(2))
    with pytest.raises(ValueError, match="got 2 of probabilities, 1 of samples"):
        corrector.shares("EMQ", np.eye(2), np.zeros(1, int))
