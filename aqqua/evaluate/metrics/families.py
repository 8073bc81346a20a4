"""Figures of novelty, of instruments and of quantities, with intervals over groups, named as in FIGURES.

M images (or objects) judged, Q queries, S samples.

Test: tests/evaluate/metrics/test_families.py.
"""

from collections.abc import Callable
from operator import attrgetter

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.community import Community, operating_point
from aqqua.evaluate.metrics.drawn import group_of_samples, of_counts, of_mean, of_passing, of_rows
from aqqua.evaluate.metrics.inputs import whole_numbers
from aqqua.evaluate.metrics.interval import Interval, Statistic, interval
from aqqua.evaluate.metrics.invariance import Retrieval, instrument_probe
from aqqua.evaluate.metrics.ranking import Passing, threshold_at_tpr
from aqqua.evaluate.metrics.regression import errors, level_error, log_errors, quadratic_kappa, spearman
from aqqua.evaluate.metrics.scores import exact


def novelty_figures(
    judged: Community, group_M: Int[np.ndarray, " M"], validation: Community | None = None, seed: int = 0
) -> dict[str, Interval]:
    """How well unknown images are told, and what refusing them does to the community.

    Args:
        validation: other samples with unknown images, on which the thresholds are chosen: the one of least
            distortion, and the one that finds 95 % of the unknown, for comparison. Without them only
            the figures that need no threshold.

    Raises:
        ValueError: no unknown or no known image, or unequal lengths.
    """
    unknown_M = judged.truth_M < 0
    ranked = {"novelty_auroc": "auroc", "novelty_aupr": "average_precision"}
    found = {
        name: of_passing(attrgetter(score), unknown_M, judged.score_M, group_M)
        for name, score in ranked.items()
    }
    found["novelty_fpr95"] = of_passing(Passing.false_share, unknown_M, judged.score_M, group_M)
    figures = _intervals(found, group_M, seed)
    if validation is None:
        return figures
    group_S = group_of_samples(judged.sample_M, group_M)
    chosen = judged.distortion(operating_point(validation).threshold)
    at_tpr = np.nextafter(threshold_at_tpr(validation.truth_M < 0, validation.score_M), -np.inf)
    of_samples = {
        "oscd": chosen.oscd_S,
        "oscd_over": chosen.over_S,
        "oscd_under": chosen.under_S,
        "oscd_unknown": chosen.unknown_S,
        "oscd_at_tpr95": judged.distortion(float(at_tpr)).oscd_S,
    }
    means = {name: of_mean(value_S, group_S) for name, value_S in of_samples.items()}
    return figures | _intervals(means, group_S, seed)


def instrument_figures(
    truth_M: Int[np.ndarray, " M"],
    predicted_M: Int[np.ndarray, " M"],
    n_instruments: int,
    group_M: Int[np.ndarray, " M"],
    seed: int = 0,
) -> dict[str, Interval]:
    """How well a probe tells the instrument; to be read at equal taxon accuracy.

    Raises:
        ValueError: as `instrument_probe`.
    """
    chance = instrument_probe(truth_M, predicted_M, n_instruments).chance
    drawn = of_counts(attrgetter("balanced_accuracy"), truth_M, predicted_M, group_M, n_instruments)
    found = _intervals({"instrument_balanced_accuracy": drawn}, group_M, seed)
    return found | {"instrument_chance": exact(chance, _count(group_M))}


def retrieval_figures(found: Retrieval, group_M: Int[np.ndarray, " M"], seed: int = 0) -> dict[str, Interval]:
    """Retrieval across instruments; the groups of the queries are drawn, what is searched stays.

    Args:
        group_M: group of every image that was handed to the retrieval.
    """
    group_Q = np.unique(whole_numbers("groups", group_M)[found.query_Q], return_inverse=True)[1]
    of_queries = {
        "retrieval_precision_at_k": found.precision_Q,
        "retrieval_recall_at_1": found.first_Q,
        "retrieval_map": found.average_precision_Q,
        "retrieval_chance": found.chance_Q,
    }
    means = {name: of_mean(value_Q, group_Q) for name, value_Q in of_queries.items()}
    return _intervals(means, group_Q, seed)


def quantity_figures(
    truth_M: Float[np.ndarray, " M"],
    predicted_M: Float[np.ndarray, " M"],
    group_M: Int[np.ndarray, " M"],
    seed: int = 0,
) -> dict[str, Interval]:
    """Positive quantities, such as carbon or size: errors of log10, and rank correlation.

    Raises:
        ValueError: as `log_errors`.
    """
    log_errors(truth_M, predicted_M)  # refuses rows by their number, before any is drawn
    truth_M, predicted_M = np.asarray(truth_M, np.float64), np.asarray(predicted_M, np.float64)

    def drawn(name: str) -> Statistic:
        return of_rows(lambda rows: getattr(log_errors(truth_M[rows], predicted_M[rows]), name), group_M)

    found = {f"{name}_log10": drawn(name) for name in ("r2", "rmse", "bias")}
    found["spearman"] = of_rows(lambda rows: spearman(truth_M[rows], predicted_M[rows]), group_M)
    return _intervals(found, group_M, seed)


def continuous_figures(
    truth_M: Float[np.ndarray, " M"],
    predicted_M: Float[np.ndarray, " M"],
    group_M: Int[np.ndarray, " M"],
    seed: int = 0,
) -> dict[str, Interval]:
    """A continuous trait in its own unit: R² and rank correlation, which have none.

    Raises:
        ValueError: as `errors`.
    """
    errors(truth_M, predicted_M)  # refuses rows by their number, before any is drawn
    truth_M, predicted_M = np.asarray(truth_M, np.float64), np.asarray(predicted_M, np.float64)

    def drawn(score: Callable[[np.ndarray, np.ndarray], float]) -> Statistic:
        return of_rows(lambda rows: score(truth_M[rows], predicted_M[rows]), group_M)

    found = {"r2": drawn(lambda truth, predicted: errors(truth, predicted).r2), "spearman": drawn(spearman)}
    return _intervals(found, group_M, seed)


def binary_figures(
    positive_M: Bool[np.ndarray, " M"],
    score_M: Float[np.ndarray, " M"],
    group_M: Int[np.ndarray, " M"],
    seed: int = 0,
) -> dict[str, Interval]:
    """A binary trait by the score that it is there.

    Raises:
        ValueError: as `average_precision`.
    """
    drawn = of_passing(attrgetter("average_precision"), positive_M, score_M, group_M)
    return _intervals({"average_precision": drawn}, group_M, seed)


def ordinal_figures(
    truth_M: Int[np.ndarray, " M"],
    predicted_M: Int[np.ndarray, " M"],
    levels: int,
    group_M: Int[np.ndarray, " M"],
    seed: int = 0,
) -> dict[str, Interval]:
    """An ordinal trait, such as gut fullness, in levels from 0.

    Raises:
        ValueError: as `quadratic_kappa`.
    """
    quadratic_kappa(truth_M, predicted_M, levels)  # refuses rows by their number, before any is drawn

    def drawn(score: Callable[[np.ndarray, np.ndarray, int], float]) -> Statistic:
        return of_rows(lambda rows: score(truth_M[rows], predicted_M[rows], levels), group_M)

    found = {"quadratic_kappa": drawn(quadratic_kappa), "level_error_levels": drawn(level_error)}
    return _intervals(found, group_M, seed)


def _intervals(statistics: dict[str, Statistic], group_M: np.ndarray, seed: int) -> dict[str, Interval]:
    return {name: interval(drawn, _count(group_M), seed) for name, drawn in statistics.items()}


def _count(group_M: np.ndarray) -> int:
    return int(group_M.max()) + 1
