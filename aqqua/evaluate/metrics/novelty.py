"""What no class fits: scores of how unknown an image is, and how well they tell it.

The higher the score, the more unknown. M images judged, N images to learn from, D width, C classes.
The share of known images refused when 95 % of the unknown are found can name a bad operating point for
ecology: community.py judges by the community instead.

Test: tests/evaluate/metrics/test_novelty.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from aqqua.evaluate.metrics.inputs import probabilities, table
from aqqua.evaluate.metrics.ranking import auroc, average_precision, fpr_at_tpr

CHUNK = 1024  # rows compared at a time
NEIGHBOURS = 10


def max_softmax(probability_MC: Float[np.ndarray, "M C"]) -> Float[np.ndarray, " M"]:
    """1 - the highest probability.

    Source: Hendrycks & Gimpel 2017, A baseline for detecting misclassified and out-of-distribution examples.

    Raises:
        ValueError: rows that are no probabilities.
    """
    return 1 - probabilities("probabilities", probability_MC).max(axis=1)


def energy(logit_MC: Float[np.ndarray, "M C"], temperature: float = 1.0) -> Float[np.ndarray, " M"]:
    """-T·log Σ exp(logit / T): logits, not probabilities, whose energy is always 0.

    Source: Liu et al. 2020, Energy-based out-of-distribution detection.

    Raises:
        ValueError: logits that are not finite, or a temperature that is not above 0.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be above 0, got {temperature}; 1 is usual")
    scaled_MC = table("logits", logit_MC).astype(np.float64) / temperature
    highest_M = scaled_MC.max(axis=1)
    return -temperature * (highest_M + np.log(np.exp(scaled_MC - highest_M[:, None]).sum(axis=1)))


def neighbour_distance(
    known_ND: Float[np.ndarray, "N D"], feature_MD: Float[np.ndarray, "M D"], k: int = NEIGHBOURS
) -> Float[np.ndarray, " M"]:
    """Distance to the k-th nearest known image, of features scaled to length 1: from 0 to 2. Exact.

    Source: Sun et al. 2022, Out-of-distribution detection with deep nearest neighbors.

    Raises:
        ValueError: features that are not finite, of unequal width, or all zero; or k not in 1..N.
    """
    known_ND, feature_MD = unit_rows("known features", known_ND), unit_rows("features", feature_MD)
    if known_ND.shape[1] != feature_MD.shape[1]:
        raise ValueError(
            f"features must have one width, got {known_ND.shape[1]} and {feature_MD.shape[1]}; use one model"
        )
    if not 1 <= k <= len(known_ND):
        raise ValueError(f"k must be from 1 to the {len(known_ND)} known images, got {k}; choose a smaller k")
    found = []
    for first in range(0, len(feature_MD), CHUNK):
        similarity_RN = feature_MD[first : first + CHUNK] @ known_ND.T
        similarity_RN.partition(-k, axis=1)
        found.append(np.sqrt(np.maximum(2 - 2 * similarity_RN[:, -k].astype(np.float64), 0)))
    return np.concatenate(found)


@dataclass(frozen=True)
class NoveltyScores:
    """How well a score tells unknown images from known ones; unknown is what is asked for."""

    auroc: float  # 0.5 knows nothing
    aupr: float  # average precision; the share of unknown images knows nothing
    fpr95: float  # share of known images refused where 95 % of the unknown are found
    unknown_share: float  # of the images judged


def novelty_scores(unknown_M: Bool[np.ndarray, " M"], score_M: Float[np.ndarray, " M"]) -> NoveltyScores:
    """All of them.

    Raises:
        ValueError: no unknown image, no known one, unequal lengths, or a score that is not finite.
    """
    return NoveltyScores(
        auroc(unknown_M, score_M),
        average_precision(unknown_M, score_M),
        fpr_at_tpr(unknown_M, score_M),
        float(np.mean(unknown_M)),
    )


def unit_rows(name: str, feature_MD: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M D"]:
    """Features scaled to length 1, float32.

    Raises:
        ValueError: features that are not finite, or a row of zeros.
    """
    found_MD = table(name, feature_MD).astype(np.float32)
    length_M = np.linalg.norm(found_MD, axis=1, keepdims=True)
    wrong = np.flatnonzero(length_M == 0)
    if len(wrong):
        raise ValueError(f"{name} must not all be 0, got such in row {wrong[0]}; leave that image out")
    return found_MD / length_M
