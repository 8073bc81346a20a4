"""What validation images say of a finished head: thresholds, and how far traits are off.

Its temperature is fitted by aqqua.evaluate.metrics.temperature, within TEMPERATURES.

Letters: M validation images, C classes. Test: tests/evaluate/finetune/test_calibrate.py.
"""

import numpy as np
from jaxtyping import Float, Int

from aqqua.evaluate.finetune.traits import Trait

TEMPERATURES = (0.25, 20.0)  # searched between; where all answers are right, none would be low enough
QUANTILES = (0.025, 0.975)
FEWEST_ERRORS = 20  # validation values below which no interval is stated


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
