"""What every metric asks of its arrays, said in one place: the first row that breaks it is named.

M images judged, N images to learn from, C classes.

Test: tests/evaluate/metrics/test_inputs.py.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

SUM_TOLERANCE = 2e-3  # probabilities may come from float16, whose rounding adds up over a row


def class_numbers(name: str, class_M: Any, n_classes: int, *, unknown: bool = False) -> Int[np.ndarray, " M"]:
    """Whole numbers from 0 to under `n_classes`, one per image, as int64; with `unknown` also -1.

    Raises:
        ValueError: no image, not one whole number each, or a number out of range.
    """
    found_M = np.asarray(class_M)
    if found_M.ndim != 1 or found_M.size == 0:
        raise ValueError(
            f"{name} must hold one class number per image, got shape {found_M.shape}; "
            "give at least one image, in one dimension"
        )
    if found_M.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers, got {found_M.dtype}; number the classes from 0 to {n_classes - 1}"
        )
    found_M = found_M.astype(np.int64)
    wrong = np.flatnonzero((found_M < (-1 if unknown else 0)) | (found_M >= n_classes))
    if len(wrong):
        also = ", or -1 for unknown" if unknown else ""
        raise ValueError(
            f"{name} must be from 0 to {n_classes - 1}{also}, got {found_M[wrong[0]]} in row {wrong[0]}; "
            "leave out rows without a class of this set"
        )
    return found_M


def whole_numbers(name: str, number_M: Any) -> Int[np.ndarray, " M"]:
    """Numbers of groups, samples or instruments, from 0 on, one per image, as int64.

    Raises:
        ValueError: as `class_numbers`.
    """
    found_M = np.asarray(number_M)
    highest = int(found_M.max()) if found_M.dtype.kind in "iu" and found_M.size else 0
    return class_numbers(name, found_M, highest + 1)


def gapless_numbers(name: str, number_M: Any) -> Int[np.ndarray, " M"]:
    """As `whole_numbers`, where each number up to the highest occurs: groups and samples.

    Raises:
        ValueError: as `class_numbers`, or a number that no image has.
    """
    found_M = whole_numbers(name, number_M)
    missing = np.flatnonzero(np.bincount(found_M) == 0)
    if len(missing):
        raise ValueError(
            f"{name} must be numbered from 0 without gaps, got none of {missing[0]} and one of "
            f"{found_M.max()}; use number_groups"
        )
    return found_M


def probabilities(name: str, score_MC: Any) -> Float[np.ndarray, "M C"]:
    """Rows of probabilities as float64.

    Raises:
        ValueError: not a table with rows and classes; a number that is not finite, or negative; or a
            row whose sum is not 1 within SUM_TOLERANCE.
    """
    found_MC = table(name, score_MC).astype(np.float64)
    wrong = np.flatnonzero((found_MC < 0).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"{name} must not be negative, got {found_MC[wrong[0]].min():g} in row {wrong[0]}; "
            "give probabilities, not logits"
        )
    sum_M = found_MC.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sum_M - 1) > SUM_TOLERANCE)
    if len(wrong):
        raise ValueError(
            f"{name} must sum to 1 in every row, got {sum_M[wrong[0]]:g} in row {wrong[0]}; "
            "divide each row by its sum"
        )
    return found_MC


def table(name: str, value_MC: Any) -> Num[np.ndarray, "M C"]:
    """Finite numbers, a row per image and at least one column.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    found_MC = np.asarray(value_MC)
    if found_MC.ndim != 2 or found_MC.size == 0:
        raise ValueError(
            f"{name} must be a table of images and columns, got shape {found_MC.shape}; "
            "give at least one image and one column"
        )
    _finite(name, found_MC)
    return found_MC


def values(name: str, value_M: Any) -> Float[np.ndarray, " M"]:
    """One finite number per image, as float64.

    Raises:
        ValueError: no image, more than one number each, or one that is not finite.
    """
    found_M = np.asarray(value_M)
    if found_M.ndim != 1 or found_M.size == 0:
        raise ValueError(
            f"{name} must hold one number per image, got shape {found_M.shape}; "
            "give at least one image, in one dimension"
        )
    _finite(name, found_M)
    return found_M.astype(np.float64)


def _finite(name: str, value: np.ndarray) -> None:
    if value.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be numbers, got {value.dtype}; convert them")
    wrong = np.argwhere(~np.isfinite(value))
    if len(wrong):
        raise ValueError(
            f"{name} must be finite, got {value[tuple(wrong[0])]} in row {wrong[0][0]}; leave that row out"
        )


def same_length(**array: np.ndarray) -> int:
    """Number of rows that all arrays have.

    Raises:
        ValueError: they differ.
    """
    lengths = {name: len(rows) for name, rows in array.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise ValueError(f"there must be a row of each per image, got {told}; give the same images to all")
    return next(iter(lengths.values()))
