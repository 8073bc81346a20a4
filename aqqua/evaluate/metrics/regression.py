"""How good predicted quantities are: carbon, sizes, continuous and ordinal traits.

M objects (or samples) judged. Figures that are not defined are NaN: R² of a truth without spread, a rank
correlation of one object. Binary traits: average_precision in ranking.py.

Test: tests/evaluate/metrics/test_regression.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from aqqua.evaluate.metrics.classes import confusion
from aqqua.evaluate.metrics.inputs import class_numbers, same_length, values


@dataclass(frozen=True)
class Errors:
    """In the unit of what was predicted; of `log_errors`, in powers of ten (0.3 is a factor of 2)."""

    r2: float  # 1 is perfect, 0 no better than the mean, without lower bound
    rmse: float
    bias: float  # mean of predicted minus true


def errors(truth_M: Float[np.ndarray, " M"], predicted_M: Float[np.ndarray, " M"]) -> Errors:
    """R², root mean square error and bias.

    Raises:
        ValueError: no object, unequal lengths, or a number that is not finite.
    """
    truth_M, predicted_M = _both(truth_M, predicted_M)
    residual_M = predicted_M - truth_M
    spread, missed = float(((truth_M - truth_M.mean()) ** 2).sum()), float((residual_M**2).sum())
    r2 = 1 - missed / spread if spread > 0 else float("nan")
    return Errors(r2, float(np.sqrt(missed / len(truth_M))), float(residual_M.mean()))


def log_errors(truth_M: Float[np.ndarray, " M"], predicted_M: Float[np.ndarray, " M"]) -> Errors:
    """As `errors`, of log10: for what spans orders of magnitude, such as carbon.

    Raises:
        ValueError: as `errors`, or a number that is not above 0.
    """
    truth_M, predicted_M = _both(truth_M, predicted_M)
    for name, value_M in (("truth", truth_M), ("predictions", predicted_M)):
        wrong = np.flatnonzero(value_M <= 0)
        if len(wrong):
            raise ValueError(
                f"{name} must be above 0 to have a logarithm, got {value_M[wrong[0]]:g} in row {wrong[0]}; "
                "leave that row out and say so"
            )
    return errors(np.log10(truth_M), np.log10(predicted_M))


def spearman(truth_M: Float[np.ndarray, " M"], predicted_M: Float[np.ndarray, " M"]) -> float:
    """Correlation of ranks, equal values sharing theirs: 1 same order, 0 none, -1 reversed.

    Raises:
        ValueError: as `errors`.
    """
    rank_M, found_M = (_ranks(value_M) for value_M in _both(truth_M, predicted_M))
    rank_M, found_M = rank_M - rank_M.mean(), found_M - found_M.mean()
    scale = np.sqrt((rank_M**2).sum() * (found_M**2).sum())
    return float((rank_M * found_M).sum() / scale) if scale > 0 else float("nan")


def quadratic_kappa(truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], levels: int) -> float:
    """Agreement of ordinal levels beyond chance, a miss weighing its square: 1 perfect, 0 chance.

    NaN where truth and predictions are one and the same level throughout.

    Source: Cohen 1968, Weighted kappa; scikit-learn's cohen_kappa_score with weights="quadratic".

    Raises:
        ValueError: no object, unequal lengths, or a level that is not from 0 to under `levels`.
    """
    count_LL = confusion(truth_M, predicted_M, levels).astype(np.float64)
    level = np.arange(levels)
    weight_LL = (level[:, None] - level) ** 2
    chance_LL = np.outer(count_LL.sum(axis=1), count_LL.sum(axis=0)) / count_LL.sum()
    by_chance = float((weight_LL * chance_LL).sum())
    return 1 - float((weight_LL * count_LL).sum()) / by_chance if by_chance > 0 else float("nan")


def level_error(truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], levels: int) -> float:
    """By how many levels an ordinal prediction is off, on average.

    Raises:
        ValueError: as `quadratic_kappa`.
    """
    truth_M = class_numbers("truth", truth_M, levels)
    predicted_M = class_numbers("predictions", predicted_M, levels)
    same_length(truth=truth_M, predictions=predicted_M)
    return float(np.abs(truth_M - predicted_M).mean())


def _ranks(value_M: np.ndarray) -> np.ndarray:
    _, number_M, count = np.unique(value_M, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[number_M]


def _both(truth_M: np.ndarray, predicted_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth_M, predicted_M = values("truth", truth_M), values("predictions", predicted_M)
    same_length(truth=truth_M, predictions=predicted_M)
    return truth_M, predicted_M
