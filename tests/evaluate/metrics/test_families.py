"""Figures of novelty, instruments and quantities are those of their functions, with intervals over groups."""

import numpy as np
import pytest

from aqqua.evaluate.metrics.community import Community, operating_point
from aqqua.evaluate.metrics.families import (
    binary_figures,
    instrument_figures,
    novelty_figures,
    ordinal_figures,
    quantity_figures,
    retrieval_figures,
)
from aqqua.evaluate.metrics.interval import Interval
from aqqua.evaluate.metrics.invariance import cross_instrument_retrieval
from aqqua.evaluate.metrics.novelty import novelty_scores
from aqqua.evaluate.metrics.ranking import average_precision, threshold_at_tpr
from aqqua.evaluate.metrics.regression import log_errors, quadratic_kappa, spearman
from aqqua.evaluate.metrics.scores import Scores

SAMPLE = np.arange(120) % 12
GROUP = SAMPLE // 2


def community(seed: int) -> Community:
    draw = np.random.default_rng(seed)
    truth = draw.integers(-1, 4, 120)
    return Community(truth, np.maximum(truth, 0), draw.normal(size=120) + (truth < 0), SAMPLE, 4)


def checked(figures: dict[str, Interval], groups: int = 6) -> dict[str, float]:
    """Values, of figures that scores accept and that have an interval."""
    Scores("model", "tier", "probe", 120, groups, figures)
    for name, found in figures.items():
        assert found.groups == groups
        assert (found.low is not None) == (name != "instrument_chance")
        assert found.low is None or found.low <= found.high
    return {name: found.value for name, found in figures.items()}


@pytest.mark.parametrize("validated", [0, 1])
def test_novelty(validated):
    judged, validation = community(0), community(validated)
    found = checked(novelty_figures(judged, GROUP, validation))
    ranked = novelty_scores(judged.truth_M < 0, judged.score_M)
    chosen = judged.distortion(operating_point(validation).threshold)
    threshold = threshold_at_tpr(validation.truth_M < 0, validation.score_M)
    refused = judged.score_M >= threshold  # what finds 95 % has at least this score
    same = Community(judged.truth_M, judged.predicted_M, refused.astype(float), SAMPLE, 4)
    want = {
        "novelty_auroc": ranked.auroc,
        "novelty_aupr": ranked.aupr,
        "novelty_fpr95": ranked.fpr95,
        "oscd": chosen.oscd_S.mean(),
        "oscd_over": chosen.over_S.mean(),
        "oscd_under": chosen.under_S.mean(),
        "oscd_unknown": chosen.unknown_S.mean(),
        "oscd_at_tpr95": same.distortion(0.5).oscd_S.mean(),
    }
    assert found == pytest.approx(want)
    assert set(novelty_figures(judged, GROUP)) == {"novelty_auroc", "novelty_aupr", "novelty_fpr95"}


def test_instruments():
    truth = np.arange(120) % 3
    found = checked(instrument_figures(truth, np.where(np.arange(120) < 60, truth, 0), 4, GROUP))
    assert found == pytest.approx({"instrument_balanced_accuracy": 2 / 3, "instrument_chance": 1 / 3})


def test_retrieval_draws_the_groups_that_have_queries():
    draw = np.random.default_rng(0)
    classes, instruments = draw.integers(0, 4, 120), draw.integers(0, 2, 120)
    classes[GROUP == 0] = 9  # a class of one instrument: no queries in its group
    instruments[GROUP == 0] = 1
    found = cross_instrument_retrieval(draw.normal(size=(120, 5)), classes, instruments)
    figures = checked(retrieval_figures(found, GROUP), groups=5)
    assert figures["retrieval_map"] == pytest.approx(found.average_precision_Q.mean())
    assert figures["retrieval_precision_at_k"] == pytest.approx(found.precision_Q.mean())
    assert figures["retrieval_recall_at_1"] == pytest.approx(found.first_Q.mean())
    assert figures["retrieval_chance"] == pytest.approx(found.chance_Q.mean())


def test_quantities_and_traits():
    draw = np.random.default_rng(0)
    truth, guess = draw.lognormal(0, 2, 120), draw.lognormal(0, 2, 120)
    logs = log_errors(truth, guess)
    assert checked(quantity_figures(truth, guess, GROUP)) == pytest.approx(
        {
            "r2_log10": logs.r2,
            "rmse_log10": logs.rmse,
            "bias_log10": logs.bias,
            "spearman": spearman(truth, guess),
        }
    )
    has_eggs = truth > 1
    assert checked(binary_figures(has_eggs, guess, GROUP)) == pytest.approx(
        {"average_precision": average_precision(has_eggs, guess)}
    )
    full, found = draw.integers(0, 4, (2, 120))
    assert checked(ordinal_figures(full, found, 4, GROUP)) == pytest.approx(
        {
            "quadratic_kappa": quadratic_kappa(full, found, 4),
            "level_error_levels": np.abs(full - found).mean(),
        }
    )


def test_bad_rows_are_named_by_their_number_not_by_that_of_a_draw():
    truth = np.ones(120)
    truth[77] = 0
    with pytest.raises(ValueError, match="truth must be above 0 to have a logarithm, got 0 in row 77"):
        quantity_figures(truth, np.ones(120), GROUP)
    levels = np.zeros(120, int)
    levels[77] = 4
    with pytest.raises(ValueError, match="predictions must be from 0 to 3, got 4 in row 77"):
        ordinal_figures(np.zeros(120, int), levels, 4, GROUP)
