"""Multinomial logistic regression on frozen, standardised features.

The loss and its minimum are scikit-learn's LogisticRegression. Ours is here because it goes on from the last
strength when it tries the next one, uses all cores, and yet gives the same bits for any number of them: rows
are summed in chunks of one size, each by one thread, and the sums added in the order of the chunks.

Letters: N training rows, M asked rows, D width, C classes, K classes that occur in training.
Test: tests/evaluate/probes/test_logistic.py, against scikit-learn.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int

from aqqua.evaluate.probes.probe import (
    Advance,
    Always,
    HeldBack,
    Predictor,
    Standardised,
    labelled,
    over_all_classes,
)
from aqqua.evaluate.probes.validation import validation_score
from aqqua.progress import silent

# Inverse regularisation tried, from the strongest: every fourth of dinov2/eval/log_regression.py's
# 10^linspace(-6, 5, 45).
STRENGTHS = tuple(10.0**power for power in range(-6, 6))
MAX_ITERATIONS = 1000  # dinov2/eval/log_regression.py
PATIENCE = 3  # weaker strengths are not tried once so many in a row were no better
TOLERANCE = 1e-5  # of the largest slope; scikit-learn's 1e-4 leaves probabilities 0.001 from the minimum
ROUGH_TOLERANCE = 1e-4  # is enough to rank strengths
CHUNK = 4096  # rows summed by one thread


@dataclass(frozen=True)
class Logistic:
    """The strength is chosen by macro-F1 on groups held back, then all rows are fitted."""

    strengths: tuple[float, ...] = STRENGTHS
    max_iterations: int = MAX_ITERATIONS

    @property
    def fits(self) -> int:
        """At most, for progress: one for each strength, then with the best on all rows."""
        return len(self.strengths) + 1

    def fit(
        self,
        train_ND: Float[np.ndarray, "N D"],
        labels_N: Int[np.ndarray, " N"],
        classes: int,
        groups_N: Int[np.ndarray, " N"],
        seed: int = 0,
        advance: Advance = silent,
    ) -> Predictor:
        """See Probe.fit; `advance` is called with the fits done."""
        known = labelled(train_ND, labels_N, classes, groups_N, seed, "logistic")
        if isinstance(known, Always):
            return known
        standardised = Standardised.of(train_ND)
        rows_ND = standardised(train_ND)
        best, found_HK = self._choose(rows_ND, known.label_N, known.held_N, advance)
        held = None
        if found_HK is not None:
            held = HeldBack(known.held_N, over_all_classes(found_HK, known.present_K, classes))
        advance(self.fits - 1)
        start = np.zeros((len(known.present_K), rows_ND.shape[1] + 1))
        weights = minimise(rows_ND, known.label_N, best, start, self.max_iterations)
        advance(self.fits)
        return Weights(weights, known.present_K, classes, standardised, best, held)

    def _choose(
        self, rows_ND: np.ndarray, label_N: np.ndarray, held_N: np.ndarray, advance: Advance
    ) -> tuple[float, np.ndarray | None]:
        """The strength of best macro-F1 on the rows held back; of equals the strongest regularisation.

        And what it says of those rows, [H, K]; None where none was tried.
        """
        strengths = sorted(self.strengths)
        if len(strengths) == 1 or not held_N.any():
            return strengths[len(strengths) // 2], None
        best, best_found, best_score, worse = strengths[0], None, -1.0, 0
        K = int(label_N.max()) + 1
        weights = np.zeros((K, rows_ND.shape[1] + 1))
        kept = rows_ND[~held_N], label_N[~held_N]
        for done, strength in enumerate(strengths):
            advance(done)
            weights = minimise(*kept, strength, weights, self.max_iterations, ROUGH_TOLERANCE)
            found_MK = softmax_rows(rows_ND[held_N], weights)
            score = validation_score(label_N[held_N], found_MK)
            if score > best_score:
                best, best_found, best_score, worse = strength, found_MK, score, 0
            elif len(np.unique(found_MK.argmax(axis=1))) > 1:
                worse += 1  # too strong a one calls all rows alike: equals of these are no reason to stop
            if worse == PATIENCE:
                break
        return best, best_found


@dataclass(frozen=True, eq=False)
class Weights:
    """A fitted logistic regression."""

    weights_KD1: Float64[np.ndarray, "K D1"]  # the last column is the intercept
    present_K: Int[np.ndarray, " K"]
    classes: int
    standardised: Standardised
    strength: float  # that was chosen
    held: HeldBack | None  # None where there was nothing to choose

    def probabilities(self, rows_MD: Float[np.ndarray, "M D"]) -> Float32[np.ndarray, "M C"]:
        """See Predictor."""
        parts = [
            softmax_rows(self.standardised(rows_MD[at : at + CHUNK]), self.weights_KD1)
            for at in range(0, max(len(rows_MD), 1), CHUNK)
        ]
        return over_all_classes(np.concatenate(parts), self.present_K, self.classes)


def minimise(
    rows_ND: Float32[np.ndarray, "N D"],
    label_N: Int[np.ndarray, " N"],
    strength: float,
    start_KD1: Float64[np.ndarray, "K D1"],
    max_iterations: int,
    tolerance: float = TOLERANCE,
) -> Float64[np.ndarray, "K D1"]:
    """Weights of least mean cross-entropy + ‖weights without intercepts‖² / (2 · strength · N), by L-BFGS.

    Two classes have one vector between them in scikit-learn, the difference of ours: to be penalised alike,
    our penalty is doubled there. Where the penalty is large, weights are far smaller than intercepts: they
    are searched for in a unit in which both bend the loss alike.
    """
    from scipy.optimize import minimize as run_lbfgs
    from threadpoolctl import threadpool_limits

    N, K = len(rows_ND), len(start_KD1)
    penalty = (2.0 if K == 2 else 1.0) / (strength * N)
    unit_D1 = np.append(np.full(start_KD1.shape[1] - 1, 1 / np.sqrt(1 + penalty)), 1.0)
    chunks = [(rows_ND[at : at + CHUNK], label_N[at : at + CHUNK]) for at in range(0, N, CHUNK)]
    with threadpool_limits(1), ThreadPoolExecutor(torch.get_num_threads()) as threads:

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(start_KD1.shape) * unit_D1
            of_chunk = partial(_cross_entropy, weights.astype(np.float32))
            total, slope = 0.0, np.zeros_like(weights)
            for part, part_slope in threads.map(of_chunk, chunks):
                total += part
                slope += part_slope
            slope /= N
            slope[:, :-1] += penalty * weights[:, :-1]
            value = total / N + penalty / 2 * float(np.square(weights[:, :-1]).sum())
            return value, (slope * unit_D1).ravel()

        options = {"maxiter": max_iterations, "maxls": 50, "gtol": tolerance, "ftol": 1e-11}
        start = (start_KD1 / unit_D1).ravel()
        found = run_lbfgs(loss, start, method="L-BFGS-B", jac=True, options=options)
    return np.asarray(found.x, np.float64).reshape(start_KD1.shape) * unit_D1


def _cross_entropy(weights_KD1: np.ndarray, chunk: tuple[np.ndarray, np.ndarray]) -> tuple[float, np.ndarray]:
    """Sum over the rows [N, D] and labels [N] of a chunk, and its slope [K, D + 1]."""
    rows_ND, label_N = chunk
    logits_NK = rows_ND @ weights_KD1[:, :-1].T + weights_KD1[:, -1]
    logits_NK -= logits_NK.max(axis=1, keepdims=True)
    at = np.arange(len(rows_ND)), label_N
    hit_N = logits_NK[at].astype(np.float64)
    np.exp(logits_NK, out=logits_NK)
    sum_N = logits_NK.sum(axis=1)
    logits_NK /= sum_N[:, None]
    logits_NK[at] -= 1
    slope = np.concatenate([logits_NK.T @ rows_ND, logits_NK.sum(axis=0)[:, None]], axis=1)
    return float((np.log(sum_N.astype(np.float64)) - hit_N).sum()), slope


def softmax_rows(
    rows_MD: Float32[np.ndarray, "M D"], weights_KD1: Float64[np.ndarray, "K D1"]
) -> Float32[np.ndarray, "M K"]:
    """Probabilities of rows that are standardised."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        logits_MK = rows_MD @ weights_KD1[:, :-1].T.astype(np.float32) + weights_KD1[:, -1].astype(np.float32)
    logits_MK = np.exp(logits_MK - logits_MK.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(logits_MK / logits_MK.sum(axis=1, keepdims=True), np.float32)
