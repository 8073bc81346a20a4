"""What a judgement is made of: classes with their tree, and images with what a probe says of them.

M images, C classes, R ranks.

Test: tests/evaluate/metrics/test_judge.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.classes import most_probable
from aqqua.evaluate.metrics.inputs import class_numbers, gapless_numbers, probabilities, same_length
from aqqua.evaluate.metrics.scores import RANKS


@dataclass(frozen=True)
class LabelSet:
    """Classes and their tree (aqqua.taxonomy)."""

    names: tuple[str, ...]
    plankton_C: Bool[np.ndarray, " C"]  # counts in plankton-only figures
    ancestor_CR: Int[np.ndarray, "C R"]  # ranks as RANKS; -1 unknown
    distance_CC: Float[np.ndarray, "C C"]

    def __post_init__(self) -> None:
        n_classes = len(self.names)
        for name, found, wanted in (
            ("plankton", self.plankton_C, (n_classes,)),
            ("ancestors", self.ancestor_CR, (n_classes, len(RANKS))),
            ("distances", self.distance_CC, (n_classes, n_classes)),
        ):
            if found.shape != wanted:
                raise ValueError(f"{name} must have the shape {wanted}, got {found.shape}; one per class")


@dataclass(frozen=True)
class Called:
    """What images were called: enough to compare contenders, and a class's width smaller than Judged."""

    truth_M: Int[np.ndarray, " M"]
    predicted_M: Int[np.ndarray, " M"]
    group_M: Int[np.ndarray, " M"]
    n_classes: int


@dataclass(frozen=True)
class Judged:
    """Images and what a probe says of them, in the same order."""

    truth_M: Int[np.ndarray, " M"]
    probability_MC: Float[np.ndarray, "M C"]
    group_M: Int[np.ndarray, " M"]  # from 0 without gaps: what is drawn together, such as a cast
    sample_M: Int[np.ndarray, " M"]  # from 0 without gaps: what shares are of

    def __post_init__(self) -> None:
        columns = probabilities("probabilities", self.probability_MC).shape[1]
        class_numbers("truth", self.truth_M, columns)
        same_length(
            truth=self.truth_M,
            probabilities=self.probability_MC,
            groups=gapless_numbers("groups", self.group_M),
            samples=gapless_numbers("samples", self.sample_M),
        )

    @property
    def called(self) -> Called:
        """The most probable class of each image."""
        predicted_M = most_probable(self.probability_MC)
        return Called(self.truth_M, predicted_M, self.group_M, self.probability_MC.shape[1])
