"""Measured traits and carbon: what frozen features, and a fine-tuned head where there is one, know of them.

The features are asked by a linear probe that learns from the training side of the split: ridge regression
of a continuous trait, logistic regression of a binary or an ordinal one. A head that learnt the trait answers
by itself. Both are judged on the same images: a binary trait by average precision, an ordinal one by
agreement of levels (quadratic kappa), a continuous one by R² and rank correlation, or of its logarithm by R²,
RMSE and bias.

Letters: I images of the suite, M tested images, N images learnt from.
Test: tests/evaluate/test_quantities.py.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64

from aqqua.evaluate.learned_head import NAME, LearnedHead
from aqqua.evaluate.metrics.families import (
    binary_figures,
    continuous_figures,
    ordinal_figures,
    quantity_figures,
)
from aqqua.evaluate.metrics.interval import Interval
from aqqua.evaluate.metrics.scores import Scores
from aqqua.evaluate.probes.logistic import Logistic
from aqqua.evaluate.probes.ridge import Ridge
from aqqua.evaluate.protocol import SEED, Task
from aqqua.evaluate.suites.measured import MeasuredTrait
from aqqua.evaluate.suites.split import LEARNT_FROM, TESTED

FEWEST = 5  # values on a side below which nothing is said


def judge_quantities(
    contender: str, rows_ID: Float[np.ndarray, "I D"], head: LearnedHead | None, task: Task
) -> Iterator[Scores]:
    """Figures of every measured trait of a split that can be judged on it, by the probe and by the head.

    Args:
        rows_ID: features of all images of the suite, in its order.
        head: None where the contender has none, or had learnt from tested images.

    Raises:
        ValueError: the head learnt a trait in another unit or kind.
    """
    for trait in task.prepared.measured:
        side_N = task.split.side_I[trait.image_N]
        learnt, tested = side_N == LEARNT_FROM, side_N == TESTED
        if not judgeable(trait.value_N[tested]):
            continue
        image_M, rows_MD = trait.image_N[tested], rows_ID[trait.image_N[tested]]
        answers = {}
        if judgeable(trait.value_N[learnt]):
            rows = trait.image_N[learnt]
            groups_N = task.prepared.images.group_I[rows]
            answers["linear"] = linear_answer(trait, rows_ID[rows], trait.value_N[learnt], groups_N, rows_MD)
        if head is not None and (found_M := head.values(rows_MD, trait)) is not None:
            answers[NAME] = found_M
        group_M = task.groups_of(image_M)
        for name, answer_M in answers.items():
            figures = _figures(trait, trait.value_N[tested], answer_M, group_M)
            about = f"{trait.trait_id}, {name}", len(image_M), int(group_M.max()) + 1
            yield Scores(contender, task.split.name, *about, figures)


def judgeable(value_N: Float[np.ndarray, " N"]) -> bool:
    """Whether these values are enough to learn from or to judge by."""
    return len(value_N) >= FEWEST and len(np.unique(value_N)) >= 2


def linear_answer(
    trait: MeasuredTrait,
    train_ND: Float[np.ndarray, "N D"],
    value_N: Float[np.ndarray, " N"],
    groups_N: np.ndarray,
    asked_MD: Float[np.ndarray, "M D"],
) -> Float64[np.ndarray, " M"]:
    """What frozen features tell: the value in the trait's unit, or the probability of a binary trait."""
    if trait.kind == "continuous":
        coded_N = np.log10(value_N) if trait.log10 else value_N
        found_M = Ridge().fit(train_ND, coded_N, groups_N, SEED)(asked_MD)
        if not trait.log10:
            return found_M
        # Beyond a hundred times what was learnt from, a line is no answer, and a power of it no number.
        return 10.0 ** found_M.clip(coded_N.min() - 2, coded_N.max() + 2)
    levels, level_N = np.unique(value_N, return_inverse=True)
    predictor = Logistic().fit(train_ND, level_N, len(levels), groups_N, SEED)
    found_MK = predictor.probabilities(asked_MD).astype(np.float64)
    return found_MK[:, 1] if trait.kind == "binary" else levels[found_MK.argmax(axis=1)]


def _figures(
    trait: MeasuredTrait, truth_M: np.ndarray, answer_M: np.ndarray, group_M: np.ndarray
) -> dict[str, Interval]:
    if trait.kind == "binary":
        return binary_figures(truth_M == 1, answer_M, group_M, SEED)
    if trait.kind == "ordinal":
        levels = np.unique(np.concatenate([trait.value_N, answer_M]))
        places = np.searchsorted(levels, truth_M), np.searchsorted(levels, answer_M)
        return ordinal_figures(*places, len(levels), group_M, SEED)
    of = quantity_figures if trait.log10 else continuous_figures
    return of(truth_M, answer_M, group_M, SEED)
