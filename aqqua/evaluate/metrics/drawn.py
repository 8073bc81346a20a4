"""Scores as functions of how often each group of images is drawn: what the bootstrap asks a thousand times.

Class counts and means are added up per group first, so that a draw touches no image. M images judged,
C classes, G groups, K pairs of group and class that occur.

Test: tests/evaluate/metrics/test_interval.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aqqua.evaluate.metrics.classes import ClassCounts
from aqqua.evaluate.metrics.inputs import class_numbers, gapless_numbers, same_length, table, values
from aqqua.evaluate.metrics.interval import Statistic
from aqqua.evaluate.metrics.ranking import Passing, passing


def of_counts(
    score: Callable[[ClassCounts], float],
    truth_M: Int[np.ndarray, " M"],
    predicted_M: Int[np.ndarray, " M"],
    group_M: Int[np.ndarray, " M"],
    n_classes: int,
    counted_C: Bool[np.ndarray, " C"] | None = None,
) -> Statistic:
    """A score of class counts, such as macro-F1, from counts per group: a draw touches no image.

    Raises:
        ValueError: unequal lengths, or numbers out of range.
    """
    truth_M = class_numbers("truth", truth_M, n_classes)
    predicted_M = class_numbers("predictions", predicted_M, n_classes)
    group_M = gapless_numbers("groups", group_M)
    same_length(truth=truth_M, predictions=predicted_M, groups=group_M)
    asked_M = np.ones(len(truth_M), bool) if counted_C is None else counted_C[truth_M]
    hit_M = asked_M & (truth_M == predicted_M)
    hits, asked, called = (
        _GroupCounts.of(class_M[rows_M], group_M[rows_M], n_classes)
        for class_M, rows_M in ((truth_M, hit_M), (truth_M, asked_M), (predicted_M, asked_M))
    )
    return lambda drawn_G: score(ClassCounts(hits(drawn_G), asked(drawn_G), called(drawn_G)))


def of_sums(
    score: Callable[[Float[np.ndarray, " K"]], float],
    value_MK: Float[np.ndarray, "M K"],
    group_M: Int[np.ndarray, " M"],
) -> Statistic:
    """A score of sums over images, such as a ratio of two columns, from sums per group.

    Raises:
        ValueError: unequal lengths, or a number that is not finite.
    """
    value_MK, group_M = table("values", value_MK), gapless_numbers("groups", group_M)
    same_length(values=value_MK, groups=group_M)
    sum_GK = np.column_stack([np.bincount(group_M, value_M) for value_M in value_MK.T])
    return lambda drawn_G: score(drawn_G.astype(np.float64) @ sum_GK)


def of_mean(value_M: Shaped[np.ndarray, " M"], group_M: Int[np.ndarray, " M"]) -> Statistic:
    """The mean of a number per image (or query, or sample).

    Raises:
        ValueError: as `of_sums`.
    """
    value_M = values("values", value_M)
    return of_ratio(value_M, np.ones(len(value_M)), group_M)


def of_ratio(
    part_M: Shaped[np.ndarray, " M"], whole_M: Shaped[np.ndarray, " M"], group_M: Int[np.ndarray, " M"]
) -> Statistic:
    """The sum of one number (or truth, as 1) over the sum of another; NaN where that is 0.

    Raises:
        ValueError: as `of_sums`.
    """
    same_length(parts=part_M, wholes=whole_M)
    columns = np.column_stack([values("parts", part_M), values("wholes", whole_M)])
    return of_sums(lambda sum_K: float(sum_K[0] / sum_K[1]) if sum_K[1] else float("nan"), columns, group_M)


def of_passing(
    score: Callable[[Passing], float],
    positive_M: Bool[np.ndarray, " M"],
    score_M: Float[np.ndarray, " M"],
    group_M: Int[np.ndarray, " M"],
) -> Statistic:
    """A score of ranked images, such as AUROC, sorted once; NaN where a draw has one side only.

    Raises:
        ValueError: unequal lengths, a score that is not finite, or one side only.
    """
    group_M = gapless_numbers("groups", group_M)
    found = passing(positive_M, score_M)
    same_length(scores=score_M, groups=group_M)
    order_M, last_K = found.order_M, found.last_K
    hit_M = np.asarray(positive_M)[order_M]

    def statistic(drawn_G: Int[np.ndarray, " G"]) -> float:
        drawn_M = drawn_G[group_M[order_M]]
        hit_K, all_K = np.cumsum(drawn_M * hit_M)[last_K], np.cumsum(drawn_M)[last_K]
        if not 0 < hit_K[-1] < all_K[-1]:
            return float("nan")
        return score(replace(found, hit_K=hit_K, false_K=all_K - hit_K))

    return statistic


def of_rows(score: Callable[[Int[np.ndarray, " M"]], float], group_M: Int[np.ndarray, " M"]) -> Statistic:
    """Any score of image rows: it is handed the rows of the groups drawn, each as often as drawn."""
    group_M = gapless_numbers("groups", group_M)
    order_M, count_G = np.argsort(group_M, kind="stable"), np.bincount(group_M)

    def statistic(drawn_G: Int[np.ndarray, " G"]) -> float:
        return score(np.repeat(order_M, np.repeat(drawn_G, count_G)))

    return statistic


@dataclass(frozen=True)
class _GroupCounts:
    """Images of each class in each group, where there are any."""

    group_K: Int[np.ndarray, " K"]
    class_K: Int[np.ndarray, " K"]
    count_K: Int[np.ndarray, " K"]
    n_classes: int

    @classmethod
    def of(cls, class_M: np.ndarray, group_M: np.ndarray, n_classes: int) -> "_GroupCounts":
        pair_K, count_K = np.unique(group_M * n_classes + class_M, return_counts=True)
        return cls(pair_K // n_classes, pair_K % n_classes, count_K, n_classes)

    def __call__(self, drawn_G: Int[np.ndarray, " G"]) -> Int[np.ndarray, " C"]:
        weight_K = drawn_G[self.group_K] * self.count_K
        # Sums of whole numbers far under 2**53 are exact in the doubles that bincount adds.
        return np.bincount(self.class_K, weight_K, self.n_classes).astype(np.int64)


def group_of_samples(
    sample_M: Int[np.ndarray, " M"], group_M: Int[np.ndarray, " M"]
) -> Int[np.ndarray, " S"]:
    """The group of each sample; where a sample is in several, samples are drawn by themselves.

    Raises:
        ValueError: unequal lengths, or numbers that are none.
    """
    sample_M, group_M = gapless_numbers("samples", sample_M), gapless_numbers("groups", group_M)
    same_length(samples=sample_M, groups=group_M)
    pair_K2 = np.unique(np.column_stack([sample_M, group_M]), axis=0)
    n_samples = int(sample_M.max()) + 1
    return pair_K2[:, 1] if len(pair_K2) == n_samples else np.arange(n_samples)
