"""How much of what is in a sample: shares of classes, and how far they are from the truth.

A classifier may be right image by image and wrong about the sample, or the other way round; ecology asks
for the sample. Shares are rows that sum to 1. M images judged, S samples, C classes.

Test: tests/evaluate/metrics/test_quantification.py.
"""

import numpy as np
from jaxtyping import Float, Int, Num

from aqqua.evaluate.metrics.inputs import class_numbers, gapless_numbers, probabilities, same_length, table


def class_shares(
    class_M: Int[np.ndarray, " M"], sample_M: Int[np.ndarray, " M"], n_classes: int
) -> Float[np.ndarray, "S C"]:
    """Share of each class among the images of each sample; samples are numbered from 0, all have images.

    Raises:
        ValueError: no image, unequal lengths, classes out of range, or a sample without images.
    """
    class_M = class_numbers("classes", class_M, n_classes)
    sample_M = gapless_numbers("samples", sample_M)
    n_samples = int(sample_M.max()) + 1
    same_length(classes=class_M, samples=sample_M)
    flat = np.bincount(sample_M * n_classes + class_M, minlength=n_samples * n_classes)
    count_SC = flat.reshape(n_samples, n_classes)
    return count_SC / count_SC.sum(axis=1, keepdims=True)


def mean_shares(
    probability_MC: Float[np.ndarray, "M C"], sample_M: Int[np.ndarray, " M"]
) -> Float[np.ndarray, "S C"]:
    """Mean probability of each class over the images of each sample.

    Raises:
        ValueError: rows that are no probabilities, unequal lengths, or a sample without images.
    """
    probability_MC = probabilities("probabilities", probability_MC)
    sample_M = gapless_numbers("samples", sample_M)
    same_length(probabilities=probability_MC, samples=sample_M)
    order_M = np.argsort(sample_M, kind="stable")
    starts = np.searchsorted(sample_M[order_M], np.arange(sample_M.max() + 1))
    total_SC = np.add.reduceat(probability_MC[order_M], starts, axis=0)
    return total_SC / total_SC.sum(axis=1, keepdims=True)


def bray_curtis(true_SC: Num[np.ndarray, "S C"], found_SC: Num[np.ndarray, "S C"]) -> Float[np.ndarray, " S"]:
    """Bray-Curtis dissimilarity of each sample: 0 alike, 1 nothing shared. Of shares or of counts.

    Source: Bray & Curtis 1957; scipy.spatial.distance.braycurtis.

    Raises:
        ValueError: unequal shapes, negative or non-finite numbers, or a sample that is empty in both.
    """
    true_SC, found_SC = _both(true_SC, found_SC)
    total_S = (true_SC + found_SC).sum(axis=1)
    empty = np.flatnonzero(total_S == 0)
    if len(empty):
        raise ValueError(f"samples must hold something, got 0 of every class in row {empty[0]}; leave it out")
    return np.abs(true_SC - found_SC).sum(axis=1) / total_S


def share_error(
    true_SC: Float[np.ndarray, "S C"], found_SC: Float[np.ndarray, "S C"]
) -> Float[np.ndarray, " S"]:
    """Mean absolute error of the shares of each sample, over its classes (quapy.error.ae).

    Raises:
        ValueError: as `bray_curtis`.
    """
    true_SC, found_SC = _both(true_SC, found_SC)
    return np.abs(true_SC - found_SC).mean(axis=1)


def relative_bias(
    true_SC: Float[np.ndarray, "S C"], found_SC: Float[np.ndarray, "S C"]
) -> Float[np.ndarray, " C"]:
    """By how much each class is over- (above 0) or underestimated, as a part of what there is of it.

    Over all samples, each of which weighs the same; -1 is "never found", NaN a class that is nowhere.

    Raises:
        ValueError: as `bray_curtis`.
    """
    true_SC, found_SC = _both(true_SC, found_SC)
    true_C, found_C = true_SC.sum(axis=0), found_SC.sum(axis=0)
    return np.divide(found_C - true_C, true_C, out=np.full(len(true_C), np.nan), where=true_C > 0)


def _both(true_SC: np.ndarray, found_SC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true_SC, found_SC = table("true shares", true_SC), table("found shares", found_SC)
    if true_SC.shape != found_SC.shape:
        raise ValueError(
            f"true and found shares must have one shape, got {true_SC.shape} and {found_SC.shape}; "
            "use the same samples and classes for both"
        )
    for name, share_SC in (("true", true_SC), ("found", found_SC)):
        wrong = np.flatnonzero((share_SC < 0).any(axis=1))
        if len(wrong):
            raise ValueError(
                f"{name} shares must not be negative, got {share_SC[wrong[0]].min():g} in row {wrong[0]}; "
                "correct them first"
            )
    return true_SC.astype(np.float64), found_SC.astype(np.float64)
