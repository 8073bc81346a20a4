"""From what a probe says of images to all figures that follow from it, with intervals over groups.

M images judged, N images to fit corrections on, C classes, G groups, S samples, B bins, R ranks.

Test: tests/evaluate/metrics/test_judge.py.
"""

from operator import attrgetter

import numpy as np
from jaxtyping import Bool, Float

from aqqua.evaluate.metrics.calibration import Bins, brier_M, calibration_gaps
from aqqua.evaluate.metrics.classes import count_classes, most_probable
from aqqua.evaluate.metrics.correction import METHODS, fit_corrector
from aqqua.evaluate.metrics.drawn import group_of_samples, of_counts, of_mean, of_ratio, of_sums
from aqqua.evaluate.metrics.hierarchy import lca_distance_M, node_counts
from aqqua.evaluate.metrics.interval import Interval, Statistic, interval, margin
from aqqua.evaluate.metrics.judged import Called, Judged, LabelSet
from aqqua.evaluate.metrics.quantification import bray_curtis, class_shares, share_error
from aqqua.evaluate.metrics.scores import RANKS, ClassRow, Scores, exact
from aqqua.evaluate.metrics.temperature import apply_temperature, fit_temperature


def judge(
    contender: str, tier: str, probe: str, judged: Judged, labels: LabelSet, *,
    validation: Judged | None = None, prior_C: Float[np.ndarray, " C"] | None = None, seed: int = 0,
) -> Scores:  # fmt: skip
    """Figures of classes, calibration, hierarchy and shares.

    Args:
        validation: images that the probe did not learn from and is not judged by; temperature and
            corrected shares are fitted on them, and left out without them.
        prior_C: shares of the classes among the rows that the probe learned from, for EMQ.
        seed: of the bootstrap; the same for all contenders, so that they can be compared.

    Raises:
        ValueError: what is judged has other classes than the label set.
    """
    for images in filter(None, (judged, validation)):
        if images.probability_MC.shape[1] != len(labels.names):
            raise ValueError(
                f"probabilities must be of the {len(labels.names)} classes of the label set, got "
                f"{images.probability_MC.shape[1]}; judge each label set by itself"
            )
    statistics = (
        _of_classes(judged.called, labels.plankton_C)
        | _of_calibration(judged)
        | _of_hierarchy(judged, labels)
    )
    n_groups = int(judged.group_M.max()) + 1
    figures = {}
    if validation is not None:
        temperature = fit_temperature(validation.truth_M, validation.probability_MC)
        tempered_MC = apply_temperature(judged.probability_MC, temperature)
        figures["temperature"] = exact(temperature, n_groups)
        statistics["ece_tempered"] = _ece(judged, tempered_MC, "equal width")
    figures |= {name: interval(drawn, n_groups, seed) for name, drawn in statistics.items()}
    figures |= _of_shares(judged, validation, prior_C, seed)
    return Scores(contender, tier, probe, len(judged.truth_M), n_groups, figures, _class_rows(judged, labels))


def macro_f1_margin(first: Called, second: Called, seed: int = 0) -> Interval:
    """Macro-F1 of the first contender minus that of the second on the same images, paired.

    Raises:
        ValueError: they were not judged on the same images.
    """
    for name in ("truth_M", "group_M"):
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise ValueError(
                f"contenders must be judged on the same images, got another {name}; "
                "hand both the same rows in the same order"
            )
    ahead, behind = (_of_classes(one, None)["macro_f1"] for one in (first, second))
    return margin(ahead, behind, int(first.group_M.max()) + 1, seed)


def _of_classes(called: Called, plankton_C: Bool[np.ndarray, " C"] | None) -> dict[str, Statistic]:
    def drawn(name: str, counted_C: Bool[np.ndarray, " C"] | None) -> Statistic:
        images = called.truth_M, called.predicted_M, called.group_M
        return of_counts(attrgetter(name), *images, called.n_classes, counted_C)

    found = {name: drawn(name, None) for name in ("macro_f1", "balanced_accuracy", "accuracy")}
    if plankton_C is not None and plankton_C[called.truth_M].any():
        for name in ("macro_f1", "balanced_accuracy"):
            found[f"plankton_{name}"] = drawn(name, plankton_C)
    return found


def _of_calibration(judged: Judged) -> dict[str, Statistic]:
    return {
        "ece": _ece(judged, judged.probability_MC, "equal width"),
        "ece_equal_mass": _ece(judged, judged.probability_MC, "equal mass"),
        "brier": of_mean(brier_M(judged.truth_M, judged.probability_MC), judged.group_M),
    }


def _ece(judged: Judged, probability_MC: Float[np.ndarray, "M C"], spacing: Bins) -> Statistic:
    """Expected calibration error in the bins that all images make."""
    gap_MB = calibration_gaps(judged.truth_M, probability_MC, spacing=spacing)
    columns = np.column_stack([gap_MB, np.ones(len(gap_MB))])
    return of_sums(lambda sum_K: float(np.abs(sum_K[:-1]).sum() / sum_K[-1]), columns, judged.group_M)


def _of_hierarchy(judged: Judged, labels: LabelSet) -> dict[str, Statistic]:
    truth_M, group_M, ancestor_CR = judged.truth_M, judged.group_M, labels.ancestor_CR
    predicted_M = most_probable(judged.probability_MC)
    distance_M = lca_distance_M(truth_M, predicted_M, labels.distance_CC)
    found = {
        "lca_distance_edges": of_mean(distance_M, group_M),
        "lca_distance_of_mistakes_edges": of_ratio(distance_M, predicted_M != truth_M, group_M),
    }
    for r, rank in enumerate(RANKS):
        asked_M = ancestor_CR[truth_M, r] >= 0
        if asked_M.any():
            right_M = asked_M & (ancestor_CR[truth_M, r] == ancestor_CR[predicted_M, r])
            found[f"accuracy_{rank}"] = of_ratio(right_M, asked_M, group_M)
    shared_M, called_M, true_M = node_counts(truth_M, predicted_M, ancestor_CR).T
    found["hierarchical_precision"] = of_ratio(shared_M, called_M, group_M)
    found["hierarchical_recall"] = of_ratio(shared_M, true_M, group_M)
    found["hierarchical_f1"] = of_ratio(2 * shared_M, called_M + true_M, group_M)
    return found


def _of_shares(
    judged: Judged, validation: Judged | None, prior_C: Float[np.ndarray, " C"] | None, seed: int
) -> dict[str, Interval]:
    """Bray-Curtis and error of shares per sample; without validation only uncorrected counts."""
    true_SC = class_shares(judged.truth_M, judged.sample_M, judged.probability_MC.shape[1])
    group_S = group_of_samples(judged.sample_M, judged.group_M)
    n_groups, found = int(group_S.max()) + 1, {}
    fitted_on = validation or judged  # CC and PCC take nothing from it
    corrector = fit_corrector(fitted_on.truth_M, fitted_on.probability_MC, prior_C)
    for method in METHODS if validation is not None else METHODS[:2]:
        share_SC = corrector.shares(method, judged.probability_MC, judged.sample_M)
        for name, figure in (("bray_curtis", bray_curtis), ("share_error", share_error)):
            drawn = of_mean(figure(true_SC, share_SC), group_S)
            found[f"{name}_{method.lower()}"] = interval(drawn, n_groups, seed)
    return found


def _class_rows(judged: Judged, labels: LabelSet) -> tuple[ClassRow, ...]:
    counts = count_classes(judged.truth_M, most_probable(judged.probability_MC), len(labels.names))
    columns = (
        column.tolist()
        for column in (counts.asked_C, counts.called_C, counts.precision_C, counts.recall_C, counts.f1_C)
    )
    return tuple(ClassRow(*row) for row in zip(labels.names, *columns, strict=True) if row[1] or row[2])
