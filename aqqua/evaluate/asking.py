"""The probes by their names on the command line: fitted on some rows, asked about others.

kNN answers for several k at once, so one probe gives one or more answers, each with a name for tables.
Letters: N rows to learn from, M asked, K classes. Test: tests/evaluate/test_asking.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from aqqua.config import did_you_mean
from aqqua.evaluate.probes.attentive import Attentive
from aqqua.evaluate.probes.boosting import Boosting
from aqqua.evaluate.probes.knn import Knn
from aqqua.evaluate.probes.linear import Linear
from aqqua.evaluate.probes.logistic import Logistic
from aqqua.evaluate.probes.probe import HeldBack
from aqqua.evaluate.tokens import PatchTokens

NEIGHBOURS = (1, 5, 20)
KNN = {"knn": ("kNN", False), "whitened-knn": ("whitened kNN", True)}
FITTED: dict[str, Callable[[], Any]] = {
    "logistic": Logistic,  # multinomial regression, strength chosen on groups held back
    "linear": Linear,  # the same by SGD over learning rates, as DINOv2; for very many images
    "boosting": Boosting,  # gradient-boosted trees, for measured features
    "attentive": Attentive,  # one query over frozen patch tokens
}
FEW_SHOT = "few-shot"  # the regression again, from 1, 5, 10 and 20 images of each class: protocol.py
PROBES = (*KNN, *FITTED, FEW_SHOT)
USUAL = ("knn", "whitened-knn", "logistic")
ON_TOKENS = ("attentive",)  # which want patch tokens instead of a feature
HEADLINE = "logistic"  # by which models are compared in a word, where it was asked

Rows = np.ndarray | PatchTokens
Answers = dict[str, Float32[np.ndarray, "M K"]]


@dataclass(frozen=True)
class Asked:
    """What a probe said."""

    answers: Answers  # name of each answer -> probabilities
    held: HeldBack | None = None  # of a probe that chose a setting, which gives one answer


def ask(
    probe: str,
    train: Rows,
    labels_N: Int[np.ndarray, " N"],
    classes: int,
    groups_N: Int[np.ndarray, " N"],
    asked: Rows,
    seed: int,
) -> Asked:
    """Fit a probe to some rows and ask it about others.

    Args:
        probe: one of PROBES.
        train: features [N, D], or patch tokens for those ON_TOKENS.
        labels_N: 0 to `classes` − 1.
        groups_N: what is chosen, is chosen on whole groups held back.
        asked: of the same kind as `train`.

    Raises:
        ValueError: no such probe, or rows that no probe takes.
    """
    check_probe(probe)
    if probe == FEW_SHOT:
        raise ValueError(f"evaluate: {probe} has no single answer, got it asked for one; see judge_few_shot")
    if probe in KNN and isinstance(train, np.ndarray) and isinstance(asked, np.ndarray):
        name, whitened = KNN[probe]
        fitted = Knn(max(NEIGHBOURS), whitened).fit(train, labels_N, classes, groups_N, seed)
        found = fitted.sweep(asked, NEIGHBOURS)
        return Asked({f"{name} k={k}": found[k] for k in NEIGHBOURS})
    predictor = FITTED[probe]().fit(train, labels_N, classes, groups_N, seed)
    return Asked({probe: predictor.probabilities(asked)}, getattr(predictor, "held", None))


def check_probe(probe: str) -> None:
    """
    Raises:
        ValueError: no such probe.
    """
    if probe not in PROBES:
        hint = did_you_mean(probe, PROBES) or "correct it"
        raise ValueError(f"evaluate: a probe must be one of {', '.join(PROBES)}, got {probe}; {hint}")
