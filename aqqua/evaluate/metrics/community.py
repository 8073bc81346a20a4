"""Does refusing unknown images make the community truer: open-set community distortion (OSCD).

An image whose novelty score is above a threshold goes into a bin "unknown" instead of its class. OSCD is
the Bray-Curtis dissimilarity of a sample over known classes and that bin; the operating point is the
threshold with the least of it on validation samples. M images, S samples, C known classes.

Source: arXiv 2605.15835, Community-aware evaluation and threshold calibration for open-set plankton image
recognition. The parts into which OSCD is divided here add up to it, which is ours.

Test: tests/evaluate/metrics/test_community.py.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.inputs import class_numbers, gapless_numbers, same_length, values
from aqqua.evaluate.metrics.quantification import class_shares

CANDIDATES = 256  # thresholds tried: as many quantiles of the scores, and "refuse none"


@dataclass(frozen=True)
class Distortion:
    """OSCD of each sample, 0 to 1, and what it comes from; over, under and unknown add up to it."""

    over_S: Float[np.ndarray, " S"]  # known classes of which too much was found
    under_S: Float[np.ndarray, " S"]  # known classes of which too little was found
    unknown_S: Float[np.ndarray, " S"]  # the bin "unknown" too full or too empty

    @property
    def oscd_S(self) -> Float[np.ndarray, " S"]:
        """Bray-Curtis dissimilarity over known classes and the unknown bin."""
        return self.over_S + self.under_S + self.unknown_S


@dataclass(frozen=True)
class Community:
    """Images of samples as they are and as a classifier of known classes finds them."""

    truth_M: Int[np.ndarray, " M"]  # -1: of no known class
    predicted_M: Int[np.ndarray, " M"]
    score_M: Float[np.ndarray, " M"]  # how unknown
    sample_M: Int[np.ndarray, " M"]  # from 0 without gaps
    n_classes: int

    def __post_init__(self) -> None:
        class_numbers("truth", self.truth_M, self.n_classes, unknown=True)
        class_numbers("predictions", self.predicted_M, self.n_classes)
        values("novelty scores", self.score_M)
        gapless_numbers("samples", self.sample_M)
        same_length(
            truth=self.truth_M, predictions=self.predicted_M, scores=self.score_M, samples=self.sample_M
        )

    def distortion(self, threshold: float) -> Distortion:
        """What comes of refusing all images whose score is above the threshold; inf refuses none."""
        found_M = np.where(self.score_M > threshold, self.n_classes, self.predicted_M)
        found_SC = class_shares(found_M, self.sample_M, self.n_classes + 1)
        # Shares sum to 1 on both sides, so that Bray-Curtis is half the sum of the differences.
        excess_SC = (found_SC - self._true_SC) / 2
        known_SC = excess_SC[:, :-1]
        over_S, under_S = np.maximum(known_SC, 0).sum(axis=1), np.maximum(-known_SC, 0).sum(axis=1)
        return Distortion(over_S, under_S, np.abs(excess_SC[:, -1]))

    @cached_property
    def _true_SC(self) -> Float[np.ndarray, "S C1"]:
        truth_M = np.where(self.truth_M < 0, self.n_classes, self.truth_M)
        return class_shares(truth_M, self.sample_M, self.n_classes + 1)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does where it was chosen."""

    threshold: float
    oscd: float  # mean over samples
    known_refused: float  # share of known images put into the unknown bin; NaN without known images
    unknown_refused: float  # share of unknown images put there; NaN without unknown images


def operating_point(validation: Community) -> OperatingPoint:
    """The threshold of least mean OSCD; of equals the highest, which refuses least.

    Choose it on validation samples that hold unknown images as real ones do, then judge others by it.
    """
    ladder = np.quantile(validation.score_M, np.linspace(0, 1, CANDIDATES), method="inverted_cdf")
    tried = [float("inf"), *np.unique(ladder)[::-1].tolist(), -float("inf")]
    oscd = [float(validation.distortion(threshold).oscd_S.mean()) for threshold in tried]
    best = int(np.argmin(np.round(oscd, 12)))  # rounding of sums must not decide between equals
    refused_M, known_M = validation.score_M > tried[best], validation.truth_M >= 0
    return OperatingPoint(tried[best], oscd[best], _share(refused_M[known_M]), _share(refused_M[~known_M]))


def _share(refused_M: Bool[np.ndarray, " M"]) -> float:
    return float(refused_M.mean()) if len(refused_M) else float("nan")
