"""judge_carbon: by hand, and never against the relation it imitates."""

import numpy as np
import pytest

from aqqua.downstream.carbon.judge import Measured, judge_carbon


def targets(*values, method="CHN analyser"):
    return [Measured(f"s{i}", value, method) for i, value in enumerate(values)]


def test_by_hand():
    score = judge_carbon({"s0": 10.0, "s1": 1.0, "other": 5.0}, targets(1.0, 10.0, 3.0))
    assert score.log_rmse == pytest.approx(1.0)
    assert score.bias == pytest.approx(0.0)
    assert score.samples == 2
    assert score.not_predicted == ("s2",)
    twice = judge_carbon({"s0": 2.0, "s1": 4.0}, targets(1.0, 2.0))
    assert twice.bias == pytest.approx(np.log10(2))
    assert twice.log_rmse == pytest.approx(np.log10(2))


@pytest.mark.parametrize("method", ["protist", "diatom/diatom_large", "calanoid_dry_weight", "mean, protist"])
def test_refuses_targets_made_by_a_relation(method):
    with pytest.raises(
        ValueError, match=r"must be measured, got one made by the relation .* in row 0 .* circular"
    ):
        judge_carbon({"s0": 1.0}, targets(1.0, method=method))


@pytest.mark.parametrize(
    ("predicted", "measured", "match"),
    [
        ({"s0": 1.0}, targets(0.0), "target must be above 0, got 0.0 in row 0"),
        ({"s0": 1.0}, targets(np.nan), "target must be above 0"),
        ({"s0": 0.0}, targets(1.0), "prediction must be above 0, got 0.0 for 's0'"),
        ({"x": 1.0}, targets(1.0), "none in common"),
        ({"s0": 1.0}, targets(1.0, method=" "), "must name its method"),
        ({"s0": 1.0}, [*targets(1.0), *targets(2.0)], "got 's0' twice"),
    ],
)
def test_refuses_what_makes_no_sense(predicted, measured, match):
    with pytest.raises(ValueError, match=match):
        judge_carbon(predicted, measured)
