"""Does a probability mean what it says: of images called with 0.8, are 80 % right?

Judged by the highest probability of each image. M images judged, C classes, B bins.

Sources: Guo et al. 2017, On Calibration of Modern Neural Networks (ECE); Nguyen & O'Connor
2015, Posterior calibration (bins of equal mass); Brier 1950.

Test: tests/evaluate/metrics/test_calibration.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from aqqua.evaluate.metrics.inputs import class_numbers, probabilities, same_length

BINS = 15  # Guo et al. 2017

Bins = Literal["equal width", "equal mass"]


@dataclass(frozen=True)
class Reliability:
    """Bins of images by confidence, for a plot and for ECE; bins without images are left out."""

    low_B: Float[np.ndarray, " B"]  # confidence where the bin begins (not in it)
    high_B: Float[np.ndarray, " B"]  # and ends (in it)
    confidence_B: Float[np.ndarray, " B"]  # mean of the bin
    accuracy_B: Float[np.ndarray, " B"]  # share that was right
    images_B: Int[np.ndarray, " B"]

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy, weighted by images; 0 is calibrated, at most 1."""
        gap_B = np.abs(self.accuracy_B - self.confidence_B)
        return float((gap_B * self.images_B).sum() / self.images_B.sum())


def reliability(
    truth_M: Int[np.ndarray, " M"],
    probability_MC: Float[np.ndarray, "M C"],
    bins: int = BINS,
    spacing: Bins = "equal width",
) -> Reliability:
    """Accuracy against confidence. Images of equal confidence share a bin, so bins of equal mass may
    hold unequal numbers.

    Raises:
        ValueError: rows that are no probabilities, classes out of range, unequal lengths, or no bin.
    """
    right_M, confidence_M = _right(truth_M, probability_MC)
    bin_M, edges = _binned(confidence_M, bins, spacing)
    images = np.bincount(bin_M, minlength=len(edges) - 1)
    held = images > 0
    return Reliability(
        low_B=edges[:-1][held],
        high_B=edges[1:][held],
        confidence_B=np.bincount(bin_M, confidence_M, len(images))[held] / images[held],
        accuracy_B=np.bincount(bin_M, right_M, len(images))[held] / images[held],
        images_B=images[held],
    )


def calibration_gaps(
    truth_M: Int[np.ndarray, " M"],
    probability_MC: Float[np.ndarray, "M C"],
    bins: int = BINS,
    spacing: Bins = "equal width",
) -> Float[np.ndarray, "M B"]:
    """Right (1 or 0) minus confidence of each image, in the column of its bin, 0 elsewhere.

    The sizes of the column sums, added up and divided by the images, are the expected calibration error:
    so it can be drawn a thousand times.

    Raises:
        ValueError: as `reliability`.
    """
    right_M, confidence_M = _right(truth_M, probability_MC)
    bin_M, edges = _binned(confidence_M, bins, spacing)
    gap_MB = np.zeros((len(bin_M), len(edges) - 1))
    gap_MB[np.arange(len(bin_M)), bin_M] = right_M - confidence_M
    return gap_MB


def brier_M(
    truth_M: Int[np.ndarray, " M"], probability_MC: Float[np.ndarray, "M C"]
) -> Float[np.ndarray, " M"]:
    """Squared distance of each row from the truth, summed over classes: 0 is best, 2 is worst. The Brier
    score is its mean (scikit-learn's brier_score_loss with scale_by_half=False).

    Raises:
        ValueError: as `reliability`.
    """
    truth_M, probability_MC = checked(truth_M, probability_MC)
    of_truth_M = probability_MC[np.arange(len(truth_M)), truth_M]
    return (probability_MC**2).sum(axis=1) - 2 * of_truth_M + 1


def _right(truth_M: np.ndarray, probability_MC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the most probable class is right (1.0 or 0.0), and its probability."""
    truth_M, probability_MC = checked(truth_M, probability_MC)
    return (probability_MC.argmax(axis=1) == truth_M).astype(np.float64), probability_MC.max(axis=1)


def _binned(confidence_M: np.ndarray, bins: int, spacing: Bins) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each image, and the edges of all."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}; {BINS} is usual")
    edges = np.linspace(0, 1, bins + 1)
    if spacing == "equal mass":
        last = -(-len(confidence_M) * np.arange(1, bins) // bins) - 1  # of each bin but the last, in order
        inner = np.sort(confidence_M)[last]
        edges = np.unique(np.concatenate([[0.0], inner, [max(1.0, confidence_M.max())]]))
    bin_M = np.searchsorted(edges, confidence_M, side="left") - 1
    return np.clip(bin_M, 0, len(edges) - 2), edges


def checked(
    truth_M: Int[np.ndarray, " M"], probability_MC: Float[np.ndarray, "M C"]
) -> tuple[Int[np.ndarray, " M"], Float[np.ndarray, "M C"]]:
    """Classes and probabilities of the same images, as int64 and float64.

    Raises:
        ValueError: as `reliability`.
    """
    probability_MC = probabilities("probabilities", probability_MC)
    truth_M = class_numbers("truth", truth_M, probability_MC.shape[1])
    same_length(truth=truth_M, probabilities=probability_MC)
    return truth_M, probability_MC
