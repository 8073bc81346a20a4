"""What every probe is: fitted on labelled rows, it answers with a probability of each class.

Letters: N training rows, H of them held back, M asked rows, D width, C classes of the set, K classes that
occur in training.
Test: tests/evaluate/probes/test_probe.py.
"""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from aqqua.evaluate.probes.validation import validation_rows

Advance = Callable[[int], None]


@runtime_checkable
class Predictor(Protocol):
    """A fitted probe."""

    def probabilities(self, rows_MD: Float[np.ndarray, "M D"], /) -> Float32[np.ndarray, "M C"]:
        """Of each class for each row; rows sum to 1. A class without training rows has 0."""
        ...


@runtime_checkable
class Probe(Protocol):
    """A way to judge features; its settings are its fields."""

    def fit(
        self,
        train_ND: Float[np.ndarray, "N D"],
        labels_N: Int[np.ndarray, " N"],
        classes: int,
        groups_N: Int[np.ndarray, " N"],
        seed: int,
    ) -> Predictor:
        """Learn from labelled rows.

        Args:
            labels_N: class numbers, 0 to `classes` − 1.
            classes: C, how many there are in the set, whether or not they occur here.
            groups_N: number of the group (bin, frame, cast) of each row; a negative one is a group of its
                own. What is chosen (strength, rate, rounds) is chosen on whole groups held back.
            seed: of all that is drawn.

        Raises:
            ValueError: rows, labels and groups do not fit together, or a feature is not finite.
        """
        ...


@dataclass(frozen=True)
class Always:
    """The answer where all training rows are of one class."""

    label: int
    classes: int

    def probabilities(self, rows: Sized) -> Float32[np.ndarray, "M C"]:
        """See Predictor; of rows or of tokens."""
        found = np.zeros((len(rows), self.classes), np.float32)
        found[:, self.label] = 1
        return found


@dataclass(frozen=True, eq=False)
class Standardised:
    """Rows to mean 0 and deviation 1 of the training rows, column by column; float32.

    A column that never changes becomes 0.
    """

    mean_D: Float[np.ndarray, " D"]
    std_D: Float[np.ndarray, " D"]

    @classmethod
    def of(cls, train_ND: Float[np.ndarray, "N D"]) -> "Standardised":
        mean_D = train_ND.mean(axis=0, dtype=np.float64)
        std_D = train_ND.std(axis=0, dtype=np.float64)
        still = std_D <= 1e-6 * np.abs(mean_D) + 1e-12
        return cls(mean_D, np.where(still, np.inf, std_D))

    def __call__(self, rows_MD: Float[np.ndarray, "M D"]) -> Float32[np.ndarray, "M D"]:
        return np.ascontiguousarray((rows_MD - self.mean_D) / self.std_D, np.float32)


def check_rows(
    train_ND: np.ndarray, labels_N: np.ndarray, classes: int, groups_N: np.ndarray, name: str
) -> None:
    """Raise ValueError, naming the probe, where rows, labels and groups do not fit together."""
    if not len(labels_N) or not len(labels_N) == len(groups_N) == len(train_ND):
        raise ValueError(
            f"{name}: rows, labels and groups must be as many, and at least one, got {len(train_ND)}, "
            f"{len(labels_N)} and {len(groups_N)}; pass those of the training rows"
        )
    if labels_N.min() < 0 or labels_N.max() >= classes:
        raise ValueError(
            f"{name}: labels must be class numbers from 0 to {classes - 1}, got {labels_N.min()} to "
            f"{labels_N.max()}; leave unlabelled rows out"
        )
    finite_N = np.isfinite(train_ND).all(axis=1)
    if not finite_N.all():
        raise ValueError(
            f"{name}: features must be finite, got others in row {int(np.argmin(finite_N))} of "
            f"{len(train_ND)}; look at the model"
        )


@dataclass(frozen=True, eq=False)
class HeldBack:
    """Training rows that the setting was chosen on, and what the fit without them says of them.

    One number, such as a temperature, can be fitted on these without another fit of the probe: the setting
    was chosen among a few by its macro-F1 here, which hardly makes it surer of them than of other groups.
    """

    rows_N: Bool[np.ndarray, " N"]
    found_HC: Float32[np.ndarray, "H C"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Training rows by the classes that occur, and which of them are held back to choose a setting."""

    present_K: Int[np.ndarray, " K"]  # class numbers, rising
    label_N: Int[np.ndarray, " N"]  # place in present_K
    held_N: Bool[np.ndarray, " N"]


def labelled(
    train_ND: np.ndarray, labels_N: np.ndarray, classes: int, groups_N: np.ndarray, seed: int, name: str
) -> Labelled | Always:
    """How every probe that chooses a setting begins; Always where there is one class and so no choice.

    Raises:
        ValueError: as check_rows.
    """
    check_rows(train_ND, labels_N, classes, groups_N, name)
    present_K, label_N = np.unique(labels_N, return_inverse=True)
    if len(present_K) == 1:
        return Always(int(present_K[0]), classes)
    return Labelled(present_K, label_N, validation_rows(labels_N, groups_N, seed))


def over_all_classes(
    found_MK: Float[np.ndarray, "M K"], present_K: Int[np.ndarray, " K"], classes: int
) -> Float32[np.ndarray, "M C"]:
    """Probabilities of the classes that were learned, as columns of all; rows made to sum to 1."""
    found = np.zeros((len(found_MK), classes), np.float32)
    found[:, present_K] = found_MK / found_MK.sum(axis=1, keepdims=True)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """In here PyTorch uses one thread, so that sums are taken in one order on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
