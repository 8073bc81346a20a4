"""Does a feature tell the animal or the camera: instrument probe and retrieval across instruments.

Lower instrument probe accuracy is better at equal taxon accuracy; so is higher retrieval. M images,
D width, C classes, Q queries. Each query is compared with every image of the other instruments, exactly.

Test: tests/evaluate/metrics/test_invariance.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.classes import count_classes
from aqqua.evaluate.metrics.inputs import same_length, whole_numbers
from aqqua.evaluate.metrics.novelty import unit_rows

NEIGHBOURS = 10
CHUNK = 512  # queries compared at a time


@dataclass(frozen=True)
class InstrumentProbe:
    """How well a probe reads the instrument off frozen features."""

    balanced_accuracy: float
    chance: float  # of guessing among the instruments that occur


def instrument_probe(
    truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], n_instruments: int
) -> InstrumentProbe:
    """Balanced accuracy of predicted instruments.

    Raises:
        ValueError: no image, unequal lengths, numbers out of range, or a single instrument.
    """
    counts = count_classes(truth_M, predicted_M, n_instruments)
    present = int((counts.asked_C > 0).sum())
    if present < 2:
        raise ValueError(
            "an instrument probe must have images of two instruments, got one; add images of another"
        )
    return InstrumentProbe(counts.balanced_accuracy, 1 / present)


@dataclass(frozen=True)
class Retrieval:
    """Each query's success in finding its class among the images of other instruments."""

    query_Q: Int[np.ndarray, " Q"]  # row of the query; rows without their class elsewhere are no queries
    precision_Q: Float[np.ndarray, " Q"]  # share of the k nearest that are of the query's class
    first_Q: Float[np.ndarray, " Q"]  # 1 where the nearest is (recall@1); equals share
    average_precision_Q: Float[np.ndarray, " Q"]  # over the whole ranking; its mean is mAP
    chance_Q: Float[np.ndarray, " Q"]  # share of the query's class among all that it is compared with
    left_out: int  # images whose class no other instrument has


def cross_instrument_retrieval(
    feature_MD: Float[np.ndarray, "M D"],
    class_M: Int[np.ndarray, " M"],
    instrument_M: Int[np.ndarray, " M"],
    k: int = NEIGHBOURS,
) -> Retrieval:
    """Rank, for each image, all images of OTHER instruments by cosine similarity.

    Images of equal similarity share the places they take, so the order of rows does not matter. With k
    over the number of other images, all count. Memory grows with CHUNK·M, time with M²·D.

    Raises:
        ValueError: features that are not finite or all zero, unequal lengths, k under 1, or no class
            that two instruments have.
    """
    feature_MD, class_M, instrument_M = _checked(feature_MD, class_M, instrument_M)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}; {NEIGHBOURS} is usual")
    shared_M = _class_elsewhere(class_M, instrument_M)
    if not shared_M.any():
        raise ValueError(
            "retrieval must have a class that two instruments have, got none; use a suite with shared classes"
        )
    found = []
    for instrument in np.unique(instrument_M[shared_M]):
        others = np.flatnonzero(instrument_M != instrument)
        queries = np.flatnonzero(shared_M & (instrument_M == instrument))
        for rows in np.split(queries, range(CHUNK, len(queries), CHUNK)):
            similarity_RN = feature_MD[rows] @ feature_MD[others].T
            same_RN = class_M[rows, None] == class_M[others]
            scored = [_query(*pair, k) for pair in zip(similarity_RN, same_RN, strict=True)]
            found.append(np.column_stack([rows, scored]))
    table = np.concatenate(found)
    table = table[np.argsort(table[:, 0])]
    row_Q, precision_Q, first_Q, average_precision_Q, chance_Q = table.T
    left_out = int((~shared_M).sum())
    return Retrieval(
        row_Q.astype(np.int64), precision_Q, first_Q, average_precision_Q, chance_Q, left_out=left_out
    )


def _query(
    similarity_N: Float[np.ndarray, " N"], same_N: Bool[np.ndarray, " N"], k: int
) -> tuple[float, float, float, float]:
    """Precision among the k nearest and of the nearest, average precision, and chance."""
    every, wanted = np.sort(similarity_N), np.sort(similarity_N[same_N])
    # How many of each kind are at least as near as each wanted one.
    near = len(every) - np.searchsorted(every, wanted, side="left")
    near_wanted = len(wanted) - np.searchsorted(wanted, wanted, side="left")
    precision = _precision(every, wanted, min(k, len(every)))
    chance = len(wanted) / len(every)
    return precision, _precision(every, wanted, 1), float((near_wanted / near).mean()), chance


def _precision(every: np.ndarray, wanted: np.ndarray, k: int) -> float:
    """Share of wanted among the k highest of sorted similarities; equals at the end share what is left."""
    edge = every[-k]
    beyond, tied = (np.searchsorted(side, edge, "right") for side in (every, wanted))
    surely, surely_wanted = len(every) - beyond, len(wanted) - tied
    equal = beyond - np.searchsorted(every, edge, "left")
    equal_wanted = tied - np.searchsorted(wanted, edge, "left")
    return float((surely_wanted + (k - surely) * equal_wanted / equal) / k)


def _class_elsewhere(class_M: np.ndarray, instrument_M: np.ndarray) -> Bool[np.ndarray, " M"]:
    """Whether another instrument has an image of the same class."""
    pairs = np.unique(np.column_stack([class_M, instrument_M]), axis=0)
    return (np.bincount(pairs[:, 0]) > 1)[class_M]


def _checked(
    feature_MD: np.ndarray, class_M: np.ndarray, instrument_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    class_M, instrument_M = whole_numbers("classes", class_M), whole_numbers("instruments", instrument_M)
    feature_MD = unit_rows("features", feature_MD)
    same_length(features=feature_MD, classes=class_M, instruments=instrument_M)
    return feature_MD, class_M, instrument_M
