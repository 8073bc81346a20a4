"""How sure a difference of two scores is: the paired bootstrap over test images."""

import numpy as np
from jaxtyping import Int

DRAWS = 1000
LEVEL = 0.95


def macro_f1_margin(
    truth_M: Int[np.ndarray, " M"],
    first_M: Int[np.ndarray, " M"],
    second_M: Int[np.ndarray, " M"],
    n_classes: int,
    seed: int,
) -> tuple[float, float]:
    """Interval of macro-F1 of the first predictions minus that of the second, at level LEVEL.

    Test images are drawn with replacement DRAWS times, the same for both; classes that a draw leaves
    out do not count in it. The interval says what other test images would do, not what another
    training run would.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile interval).
    """
    generator = np.random.default_rng(seed)
    margins = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows = generator.integers(0, len(truth_M), len(truth_M))
        truth = truth_M[rows]
        margins[draw] = macro_f1(truth, first_M[rows], n_classes) - macro_f1(truth, second_M[rows], n_classes)
    low, high = np.quantile(margins, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def macro_f1(truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], n_classes: int) -> float:
    """As `metrics.score`, over the classes that occur in truth, fast enough for a thousand draws."""
    asked = np.bincount(truth_M, minlength=n_classes)
    guessed = np.bincount(predicted_M, minlength=n_classes)
    hits = np.bincount(truth_M[truth_M == predicted_M], minlength=n_classes)
    present = asked > 0
    return float((2 * hits[present] / (asked + guessed)[present]).mean())
