"""What validation images say of a finished head: temperature, thresholds, and how far traits are off.

Letters: M validation images, C classes. Test: tests/evaluate/finetune/test_calibrate.py.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from aqqua.evaluate.finetune.traits import Trait

TEMPERATURES = (0.25, 20.0)  # searched between; where all answers are right, none would be low enough
_STEPS = 60  # of golden section: 1e-12 of the range
_GOLDEN = (math.sqrt(5) - 1) / 2
QUANTILES = (0.025, 0.975)
FEWEST_ERRORS = 20  # validation values below which no interval is stated


def fit_temperature(logits_MC: Float[np.ndarray, "M C"], label_M: Int[np.ndarray, " M"]) -> float:
    """The temperature that logits are divided by for the least negative log likelihood.

    The loss is convex in 1 / temperature, so a golden section over its logarithm finds the one minimum.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    logits_MC = logits_MC.astype(np.float64)
    low, high = (math.log(t) for t in TEMPERATURES)
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if negative_log_likelihood(logits_MC / math.exp(left), label_M) <= negative_log_likelihood(
            logits_MC / math.exp(right), label_M
        ):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def negative_log_likelihood(logits_MC: Float[np.ndarray, "M C"], label_M: Int[np.ndarray, " M"]) -> float:
    """Mean over images."""
    top_M1 = logits_MC.max(axis=1, keepdims=True)
    log_sum_M = np.log(np.exp(logits_MC - top_M1).sum(axis=1)) + top_M1[:, 0]
    return float((log_sum_M - logits_MC[np.arange(len(label_M)), label_M]).mean())


def fit_thresholds(
    probabilities_MC: Float[np.ndarray, "M C"], label_M: Int[np.ndarray, " M"]
) -> tuple[float, ...]:
    """Of each class the score from which on to accept it, for the best F1 among images it wins.

    0 where no validation image is of the class: nothing is known of it. Of equal F1 the lowest counts.
    """
    winner_M, score_M = probabilities_MC.argmax(axis=1), probabilities_MC.max(axis=1)
    found = []
    for c in range(probabilities_MC.shape[1]):
        positives = int((label_M == c).sum())
        candidates = np.sort(score_M[winner_M == c])
        if not positives or not len(candidates):
            found.append(0.0)
            continue
        right = np.sort(score_M[(winner_M == c) & (label_M == c)])
        kept = len(candidates) - np.arange(len(candidates))
        hits = len(right) - np.searchsorted(right, candidates)
        best = int((2 * hits / (kept + positives)).argmax())
        found.append(0.0 if best == 0 else float(candidates[best]))
    return tuple(found)


def with_errors(trait: Trait, truth_M: Float[np.ndarray, " M"], answer_M: Float[np.ndarray, " M"]) -> Trait:
    """A continuous trait that knows how far answers were off, standardised; others come back as they are."""
    off = (truth_M - answer_M)[~np.isnan(truth_M)]
    if trait.kind != "continuous" or len(off) < FEWEST_ERRORS:
        return trait
    low, high = np.quantile(off, QUANTILES)
    return trait.model_copy(update={"error_low": float(low), "error_high": float(high)})
