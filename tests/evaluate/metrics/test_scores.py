"""Scores become JSON without NaN, under names that are known, in a fixed order."""

import json
from typing import get_args

import pytest

from aqqua.evaluate.metrics.interval import Interval
from aqqua.evaluate.metrics.scores import FIGURES, RANKS, ClassRow, Scores, exact
from aqqua.evaluate.suites.suite import Metric

NAN = float("nan")


def made(**figures: Interval) -> Scores:
    rows = (ClassRow("Acartia", 3, 2, 1.0, 2 / 3, 0.8), ClassRow("egg", 0, 1, 0.0, NAN, NAN))
    return Scores("model", "unseen cruise", "kNN k=20", 40, 8, figures, rows)


def test_as_json_and_back():
    scores = made(
        rmse_log10=Interval(0.3, 0.2, 0.4, 8),
        macro_f1=Interval(NAN, None, float("inf"), 8, "undefined in every draw"),
        temperature=exact(1.5, 8),
    )
    found = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert list(found["figures"]) == ["macro_f1", "temperature", "rmse_log10"]  # as in FIGURES
    assert found["figures"]["macro_f1"] == {
        "value": None,
        "low": None,
        "high": None,
        "unit": "share",
        "better": "higher",
        "groups": 8,
        "note": "undefined in every draw",
    }
    assert found["figures"]["rmse_log10"]["unit"] == "log10"
    assert found["figures"]["rmse_log10"]["low"] == 0.2
    assert found["figures"]["temperature"]["note"] == "no interval"
    assert found["classes"][0]["recall"] == pytest.approx(2 / 3)
    assert found["classes"][1] == {
        "name": "egg",
        "images": 0,
        "called": 1,
        "precision": 0,
        "recall": None,
        "f1": None,
    }
    about = {key: found[key] for key in ("contender", "tier", "probe", "images", "groups", "interval_level")}
    assert list(about.values()) == ["model", "unseen cruise", "kNN k=20", 40, 8, 0.95]


def test_an_unknown_figure_is_refused():
    with pytest.raises(ValueError, match="must have the names of FIGURES, got f1_macro; add it there"):
        made(f1_macro=exact(1.0, 8))


def test_every_figure_has_a_direction_and_every_rank_a_figure():
    assert {about.better for about in FIGURES.values()} == {"higher", "lower", "nearer 0", ""}
    assert all(f"accuracy_{rank}" in FIGURES for rank in RANKS)
    units = {"", "share", "edges of the tree", "log10", "levels"}
    assert {about.unit for about in FIGURES.values()} == units
    # Every metric that a suite may ask for has figures; carbon has those of traits.
    assert {about.family for about in FIGURES.values()} == set(get_args(Metric)) - {"carbon"}
