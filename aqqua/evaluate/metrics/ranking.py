"""Does a score put what is asked for first: ROC and precision against recall, in every threshold at once.

Images of equal score pass a threshold together, so the order of rows does not matter. M images judged.

Test: tests/evaluate/metrics/test_ranking.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.inputs import same_length, values

TPR = 0.95  # at which false positives are usually told


@dataclass(frozen=True)
class Passing:
    """How many images pass each threshold, from the highest score down. Counts may be drawn (bootstrap)."""

    order_M: Int[np.ndarray, " M"]  # rows from the highest score down
    last_K: Int[np.ndarray, " K"]  # place of the last image of each score that occurs
    threshold_K: Float[np.ndarray, " K"]  # that score: images with at least it pass
    hit_K: Int[np.ndarray, " K"]  # of those asked for
    false_K: Int[np.ndarray, " K"]  # of the others

    @property
    def auroc(self) -> float:
        """Area under true positive rate over false positive rate."""
        tpr = np.append(0.0, self.hit_K / self.hit_K[-1])
        fpr = np.append(0.0, self.false_K / self.false_K[-1])
        return float(np.trapezoid(tpr, fpr))

    @property
    def average_precision(self) -> float:
        """Precision at each positive image, averaged."""
        gained_K, passed_K = np.diff(self.hit_K, prepend=0), self.hit_K + self.false_K
        precision_K = np.divide(self.hit_K, passed_K, out=np.zeros(len(gained_K)), where=passed_K > 0)
        return float((gained_K * precision_K).sum() / self.hit_K[-1])

    def enough(self, tpr: float) -> int:
        """The first threshold that lets `tpr` of the positives pass."""
        if not 0 < tpr <= 1:
            raise ValueError(f"the share of positives to pass must be in (0, 1], got {tpr}; 0.95 is usual")
        return int(np.argmax(self.hit_K / self.hit_K[-1] >= tpr))

    def false_share(self, tpr: float = TPR) -> float:
        """Share of the others that passes there."""
        return float(self.false_K[self.enough(tpr)] / self.false_K[-1])


def passing(positive_M: Bool[np.ndarray, " M"], score_M: Float[np.ndarray, " M"]) -> Passing:
    """Counts at every threshold.

    Args:
        positive_M: what is asked for; there must be some, and some others.
        score_M: the higher the surer.

    Raises:
        ValueError: no image, unequal lengths, a score that is not finite, or one side only.
    """
    positive_M, score_M = np.asarray(positive_M), values("scores", score_M)
    same_length(positives=positive_M, scores=score_M)
    if positive_M.dtype != bool or positive_M.ndim != 1:
        raise ValueError(f"positives must be true or false, got {positive_M.dtype}; compare them first")
    if positive_M.all() or not positive_M.any():
        raise ValueError(
            f"both sides must have images, got {positive_M.sum()} of {len(positive_M)} positive; "
            "this score needs some of each"
        )
    order_M = np.argsort(-score_M, kind="stable")
    last_K = np.append(np.flatnonzero(np.diff(score_M[order_M])), len(order_M) - 1)
    hit_K = np.cumsum(positive_M[order_M])[last_K]
    return Passing(order_M, last_K, score_M[order_M][last_K], hit_K, last_K + 1 - hit_K)


def auroc(positive_M: Bool[np.ndarray, " M"], score_M: Float[np.ndarray, " M"]) -> float:
    """Chance that a positive image scores above another; equal scores count half. 0.5 knows nothing.

    Raises:
        ValueError: as `passing`.
    """
    return passing(positive_M, score_M).auroc


def average_precision(positive_M: Bool[np.ndarray, " M"], score_M: Float[np.ndarray, " M"]) -> float:
    """Mean precision at the positive images, not interpolated; the share of positives knows nothing.

    Also the score of a binary trait.

    Raises:
        ValueError: as `passing`.
    """
    return passing(positive_M, score_M).average_precision


def fpr_at_tpr(
    positive_M: Bool[np.ndarray, " M"], score_M: Float[np.ndarray, " M"], tpr: float = TPR
) -> float:
    """Share of the others that pass with the highest threshold that lets `tpr` of the positives pass.

    Raises:
        ValueError: as `passing`, or a share that is not in (0, 1].
    """
    return passing(positive_M, score_M).false_share(tpr)


def threshold_at_tpr(
    positive_M: Bool[np.ndarray, " M"], score_M: Float[np.ndarray, " M"], tpr: float = TPR
) -> float:
    """That threshold: images with at least this score pass.

    Raises:
        ValueError: as `fpr_at_tpr`.
    """
    found = passing(positive_M, score_M)
    return float(found.threshold_K[found.enough(tpr)])
