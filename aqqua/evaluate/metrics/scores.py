"""All figures of one contender under one probe on one tier of a suite, under names that stay.

Test: tests/evaluate/metrics/test_scores.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aqqua.evaluate.metrics.correction import METHODS
from aqqua.evaluate.metrics.interval import LEVEL, Interval
from aqqua.taxonomy.classes import RANKS

SHARE, EDGES, LOG10 = "share", "edges of the tree", "log10"
HIGHER, LOWER, ZERO, NEITHER = "higher", "lower", "nearer 0", ""


class About(NamedTuple):
    """What a figure is."""

    unit: str
    better: str  # which way
    family: str  # metric of a suite that asks for it; carbon has figures of traits


def _of(family: str, figures: Mapping[str, tuple[str, str]]) -> dict[str, About]:
    return {name: About(unit, better, family) for name, (unit, better) in figures.items()}


# By the name of the figure. The names are read by leaderboards: add, never rename.
FIGURES: dict[str, About] = {
    **_of(
        "classification",
        {
            "macro_f1": (SHARE, HIGHER),
            "balanced_accuracy": (SHARE, HIGHER),
            "accuracy": (SHARE, HIGHER),
        },
    ),
    **_of(
        "plankton_only",
        {
            "plankton_macro_f1": (SHARE, HIGHER),
            "plankton_balanced_accuracy": (SHARE, HIGHER),
        },
    ),
    **_of(
        "calibration",
        {
            "ece": (SHARE, LOWER),
            "ece_equal_mass": (SHARE, LOWER),
            "ece_tempered": (SHARE, LOWER),
            "temperature": ("", NEITHER),
            "brier": ("", LOWER),
        },
    ),
    **_of(
        "hierarchical",
        {
            **{f"accuracy_{rank}": (SHARE, HIGHER) for rank in RANKS},
            "lca_distance_edges": (EDGES, LOWER),
            "lca_distance_of_mistakes_edges": (EDGES, LOWER),
            "hierarchical_precision": (SHARE, HIGHER),
            "hierarchical_recall": (SHARE, HIGHER),
            "hierarchical_f1": (SHARE, HIGHER),
        },
    ),
    **_of(
        "quantification",
        {
            **{f"bray_curtis_{method.lower()}": (SHARE, LOWER) for method in METHODS},
            **{f"share_error_{method.lower()}": (SHARE, LOWER) for method in METHODS},
        },
    ),
    **_of(
        "novelty",
        {
            "novelty_auroc": (SHARE, HIGHER),
            "novelty_aupr": (SHARE, HIGHER),
            "novelty_fpr95": (SHARE, LOWER),
            "oscd": (SHARE, LOWER),
            "oscd_over": (SHARE, LOWER),
            "oscd_under": (SHARE, LOWER),
            "oscd_unknown": (SHARE, LOWER),
            "oscd_at_tpr95": (SHARE, LOWER),
        },
    ),
    **_of(
        "instrument_probe",
        {
            "instrument_balanced_accuracy": (SHARE, LOWER),
            "instrument_chance": (SHARE, NEITHER),
        },
    ),
    **_of(
        "retrieval",
        {
            "retrieval_precision_at_k": (SHARE, HIGHER),
            "retrieval_recall_at_1": (SHARE, HIGHER),
            "retrieval_map": (SHARE, HIGHER),
            "retrieval_chance": (SHARE, NEITHER),
        },
    ),
    **_of(
        "traits",
        {
            "r2": ("", HIGHER),
            "r2_log10": ("", HIGHER),
            "rmse_log10": (LOG10, LOWER),
            "bias_log10": (LOG10, ZERO),
            "spearman": ("", HIGHER),
            "average_precision": (SHARE, HIGHER),
            "quadratic_kappa": ("", HIGHER),
            "level_error_levels": ("levels", LOWER),
        },
    ),
}


@dataclass(frozen=True)
class ClassRow:
    """One class among the images judged; NaN where a figure is not defined."""

    name: str
    images: int
    called: int  # images called so
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Scores:
    """What a contender scores under a probe on a tier.

    Raises:
        ValueError: a figure whose name is not in FIGURES.
    """

    contender: str
    tier: str
    probe: str
    images: int
    groups: int
    figures: Mapping[str, Interval]
    classes: tuple[ClassRow, ...] = field(default=())

    def __post_init__(self) -> None:
        unknown = sorted(set(self.figures) - set(FIGURES))
        if unknown:
            raise ValueError(
                f"scores must have the names of FIGURES, got {unknown[0]}; add it there with its unit"
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON, figures in the order of FIGURES; what is not defined is null, never NaN."""
        figures = {name: _figure(name, self.figures[name]) for name in FIGURES if name in self.figures}
        return {
            "contender": self.contender,
            "tier": self.tier,
            "probe": self.probe,
            "images": self.images,
            "groups": self.groups,
            "interval_level": LEVEL,
            "figures": figures,
            "classes": [{name: _known(value) for name, value in vars(row).items()} for row in self.classes],
        }


def exact(value: float, groups: int) -> Interval:
    """A figure that has no interval, such as a temperature."""
    return Interval(value, None, None, groups, "no interval")


def _figure(name: str, found: Interval) -> dict[str, Any]:
    about = FIGURES[name]
    figure = {"value": _known(found.value), "low": _known(found.low), "high": _known(found.high)}
    return {**figure, "unit": about.unit, "better": about.better, "groups": found.groups, "note": found.note}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
