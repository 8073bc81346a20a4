"""Ridge regression on frozen, standardised features: the probe of continuous traits and of carbon.

Letters: N training rows, M asked rows, D width, R rank.
Test: tests/evaluate/probes/test_ridge.py, against scikit-learn.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from aqqua.evaluate.probes.probe import Standardised, check_rows
from aqqua.evaluate.probes.validation import validation_rows

STRENGTHS = tuple(10.0**power for power in range(-2, 7))  # of the penalty, tried; weakest first


@dataclass(frozen=True)
class Ridge:
    """The penalty of least squared error on groups held back, then all rows are fitted."""

    strengths: tuple[float, ...] = STRENGTHS

    def fit(
        self,
        train_ND: Float[np.ndarray, "N D"],
        value_N: Float[np.ndarray, " N"],
        groups_N: Int[np.ndarray, " N"],
        seed: int = 0,
    ) -> "Line":
        """Learn values; groups and seed as in Probe.fit.

        Raises:
            ValueError: rows, values and groups do not fit together, or a feature is not finite.
        """
        alike_N = np.zeros(len(value_N), np.int64)
        check_rows(train_ND, alike_N, 1, groups_N, "ridge")
        held_N = validation_rows(alike_N, groups_N, seed)
        best = self.strengths[len(self.strengths) // 2]
        if held_N.any() and len(self.strengths) > 1:
            lines = _lines(train_ND[~held_N], value_N[~held_N], self.strengths)
            missed = [np.square(one(train_ND[held_N]) - value_N[held_N]).mean() for one in lines]
            best = self.strengths[int(np.argmin(missed))]
        return _lines(train_ND, value_N, (best,))[0]


@dataclass(frozen=True, eq=False)
class Line:
    """A fitted regression."""

    weights_D: Float64[np.ndarray, " D"]
    mean: float  # of the training values
    standardised: Standardised
    strength: float

    def __call__(self, rows_MD: Float[np.ndarray, "M D"]) -> Float64[np.ndarray, " M"]:
        """The value of each row."""
        return self.standardised(rows_MD).astype(np.float64) @ self.weights_D + self.mean


def _lines(train_ND: np.ndarray, value_N: np.ndarray, strengths: tuple[float, ...]) -> list[Line]:
    """For each strength the minimum of squared error + strength · ‖weights‖², by one decomposition."""
    standardised, mean = Standardised.of(train_ND), float(value_N.mean())
    left_NR, scale_R, right_RD = np.linalg.svd(standardised(train_ND).astype(np.float64), full_matrices=False)
    along_R = left_NR.T @ (value_N - mean)
    return [
        Line((scale_R / (scale_R**2 + strength) * along_R) @ right_RD, mean, standardised, strength)
        for strength in strengths
    ]
