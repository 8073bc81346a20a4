"""One number that makes probabilities mean what they say: their temperature, fitted on validation rows.

M images judged, N images to fit on, C classes.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks.

Test: tests/evaluate/metrics/test_temperature.py.
"""

import numpy as np
from jaxtyping import Float, Int

from aqqua.evaluate.metrics.calibration import checked
from aqqua.evaluate.metrics.inputs import probabilities

TINY = 1e-12  # a probability of 0 has no logarithm
RANGE = (0.05, 20.0)  # looked for between these; beyond, classes are all but certain or all but equal


def fit_temperature(truth_N: Int[np.ndarray, " N"], probability_NC: Float[np.ndarray, "N C"]) -> float:
    """The temperature that makes validation rows most likely; above 1 softens, below 1 sharpens.

    Fit it on rows that the probe did not learn from, and not on those it is judged by. The log-likelihood
    is concave in 1/temperature, so its slope crosses zero once; where it does not cross within
    RANGE (all right, or no better than chance) the nearer end is the answer.

    Raises:
        ValueError: rows that are no probabilities, classes out of range, or unequal lengths.
    """
    truth_N, probability_NC = checked(truth_N, probability_NC)
    return temperature_of_logits(truth_N, np.log(np.maximum(probability_NC, TINY)))


def temperature_of_logits(
    truth_N: Int[np.ndarray, " N"],
    logit_NC: Float[np.ndarray, "N C"],
    within: tuple[float, float] = RANGE,
) -> float:
    """As fit_temperature, of logits, which are divided by it; looked for `within` these."""
    from scipy.optimize import brentq

    logit_NC = logit_NC.astype(np.float64)
    of_truth = logit_NC[np.arange(len(truth_N)), truth_N].mean()

    def slope(log_inverse: float) -> float:
        """Of the mean negative log-likelihood, by 1/temperature."""
        softened_NC = _softmax(logit_NC * np.exp(log_inverse))
        return float((softened_NC * logit_NC).sum(axis=1).mean() - of_truth)

    sharpest, softest = (-float(np.log(t)) for t in within)
    if slope(sharpest) <= 0:
        return within[0]
    if slope(softest) >= 0:
        return within[1]
    return float(np.exp(-brentq(slope, softest, sharpest, xtol=1e-6)))


def apply_temperature(
    probability_MC: Float[np.ndarray, "M C"], temperature: float
) -> Float[np.ndarray, "M C"]:
    """Probabilities at another temperature, float32; the order within a row stays.

    Raises:
        ValueError: rows that are no probabilities, or a temperature that is not above 0.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be above 0, got {temperature}; 1 changes nothing")
    probability_MC = probabilities("probabilities", probability_MC)
    return _softmax(np.log(np.maximum(probability_MC, TINY)) / temperature).astype(np.float32)


def _softmax(logit_MC: np.ndarray) -> np.ndarray:
    weight_MC = np.exp(logit_MC - logit_MC.max(axis=1, keepdims=True))
    return weight_MC / weight_MC.sum(axis=1, keepdims=True)
