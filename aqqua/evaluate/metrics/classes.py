"""Right or wrong, class by class: every class counts the same, however rare.

M images judged, C classes. A class that does not occur in truth counts in no mean: what is wrongly
called so has already cost the class it belongs to. Plankton-only scores ask for some classes: images
of others are left out, and an image called one of the others is a miss.

Test: tests/evaluate/metrics/test_class_counts.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.inputs import class_numbers, probabilities, same_length


@dataclass(frozen=True)
class ClassCounts:
    """How often each class was found, asked for and called. Counts may be drawn (bootstrap)."""

    hit_C: Int[np.ndarray, " C"]  # images of the class that were called so
    asked_C: Int[np.ndarray, " C"]  # images of the class
    called_C: Int[np.ndarray, " C"]  # images called so, among those asked for

    @property
    def recall_C(self) -> Float[np.ndarray, " C"]:
        """Share of a class's images that were found; NaN for a class that does not occur."""
        return _ratio(self.hit_C, self.asked_C)

    @property
    def precision_C(self) -> Float[np.ndarray, " C"]:
        """Share of what was called so that is so; NaN for a class that was never called."""
        return _ratio(self.hit_C, self.called_C)

    @property
    def f1_C(self) -> Float[np.ndarray, " C"]:
        """Harmonic mean of precision and recall; 0 for a class never found, NaN for one not in truth."""
        found_C = _ratio(2 * self.hit_C, self.asked_C + self.called_C)
        return np.where(self.asked_C > 0, found_C, np.nan)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur; scikit-learn's with labels=those, zero_division=0."""
        return _mean(self.f1_C)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur; scikit-learn's balanced_accuracy_score."""
        return _mean(self.recall_C)

    @property
    def accuracy(self) -> float:
        """Share of all images asked for that were found."""
        return _mean(_ratio(np.atleast_1d(self.hit_C.sum()), np.atleast_1d(self.asked_C.sum())))


def count_classes(
    truth_M: Int[np.ndarray, " M"],
    predicted_M: Int[np.ndarray, " M"],
    n_classes: int,
    counted_C: Bool[np.ndarray, " C"] | None = None,
) -> ClassCounts:
    """Counts of found, asked and called.

    Args:
        counted_C: classes that are asked for, such as plankton; None asks for all.

    Raises:
        ValueError: no image, unequal lengths, numbers out of range, or no image of an asked class.
    """
    truth_M = class_numbers("truth", truth_M, n_classes)
    predicted_M = class_numbers("predictions", predicted_M, n_classes)
    same_length(truth=truth_M, predictions=predicted_M)
    counted_C = np.ones(n_classes, bool) if counted_C is None else np.asarray(counted_C)
    if counted_C.shape != (n_classes,) or counted_C.dtype != bool:
        raise ValueError(
            f"counted classes must be {n_classes} of true or false, got {counted_C.dtype} of shape "
            f"{counted_C.shape}; give one per class"
        )
    asked_M = counted_C[truth_M]
    if not asked_M.any():
        raise ValueError(f"images of counted classes must be there, got 0 of {len(truth_M)}; count others")
    truth_M, predicted_M = truth_M[asked_M], predicted_M[asked_M]
    return ClassCounts(
        hit_C=np.bincount(truth_M[truth_M == predicted_M], minlength=n_classes),
        asked_C=np.bincount(truth_M, minlength=n_classes),
        called_C=np.bincount(predicted_M, minlength=n_classes),
    )


def most_probable(probability_MC: Float[np.ndarray, "M C"]) -> Int[np.ndarray, " M"]:
    """The class of the highest probability; of equals the one with the lowest number.

    Raises:
        ValueError: rows that are no probabilities.
    """
    return probabilities("probabilities", probability_MC).argmax(axis=1)


def confusion(
    truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], n_classes: int
) -> Int[np.ndarray, "C C"]:
    """Images of each class (row) by what they were called (column).

    Raises:
        ValueError: as `count_classes`.
    """
    truth_M = class_numbers("truth", truth_M, n_classes)
    predicted_M = class_numbers("predictions", predicted_M, n_classes)
    same_length(truth=truth_M, predictions=predicted_M)
    flat = np.bincount(truth_M * n_classes + predicted_M, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(value_C: np.ndarray) -> float:
    known = value_C[~np.isnan(value_C)]
    return float(known.mean()) if len(known) else float("nan")
