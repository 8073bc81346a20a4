"""The protocol: each contender on each split of a suite, by the same probes on the same images.

features of all images, once -> per split: probe fitted on the training rows -> probabilities of the test rows
-> figures with intervals over groups. Where a figure needs to be fitted too (temperature, corrected shares),
that is done on training groups that the probe held back to choose its setting, by its fit without them; a
probe that chooses nothing (kNN) is fitted once more without such groups. Test rows are never looked at.
Letters: I images of the suite, N training rows, M test rows, D width, K classes of a split.
Test: tests/evaluate/test_protocol.py.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int

from aqqua.evaluate.asking import FEW_SHOT, HEADLINE, Rows, ask
from aqqua.evaluate.learned_head import NAME, LearnedHead
from aqqua.evaluate.metrics.classes import count_classes, most_probable
from aqqua.evaluate.metrics.community import Community
from aqqua.evaluate.metrics.families import instrument_figures, novelty_figures, retrieval_figures
from aqqua.evaluate.metrics.interval import Interval, number_groups
from aqqua.evaluate.metrics.invariance import cross_instrument_retrieval
from aqqua.evaluate.metrics.judge import judge
from aqqua.evaluate.metrics.judged import Called, Judged, LabelSet
from aqqua.evaluate.metrics.novelty import max_softmax
from aqqua.evaluate.metrics.scores import FIGURES, Scores
from aqqua.evaluate.probes.few_shot import FewShot, few_shot
from aqqua.evaluate.probes.logistic import Logistic
from aqqua.evaluate.probes.probe import HeldBack
from aqqua.evaluate.probes.validation import validation_rows
from aqqua.evaluate.probes.whiten import fit_whitening
from aqqua.evaluate.suites.prepare import Prepared
from aqqua.evaluate.suites.split import Split
from aqqua.store.split import draw
from aqqua.taxonomy.tree import Tree

SEED = 0  # of probes and intervals: a protocol has one
NOVEL_SHARE = 0.25  # of the classes, those of the lowest hash, that the novelty probe never learns
CLASS_FAMILIES = ("classification", "plankton_only", "calibration", "hierarchical", "quantification")
FITTED_FIGURES = (
    "calibration",
    "quantification",
)  # families that need rows which the probe did not learn from


@dataclass(frozen=True)
class Task:
    """One split of a suite, as probes and metrics want it."""

    prepared: Prepared
    split: Split

    @property
    def classes(self) -> int:
        """K."""
        return len(self.split.classes)

    @cached_property
    def labels(self) -> LabelSet:
        """The classes asked for, and their tree."""
        classes = [self.prepared.classes[c] for c in self.split.classes]
        tree = Tree.of(classes)
        plankton_K = np.array([one.plankton for one in classes])
        return LabelSet(tuple(one.name for one in classes), plankton_K, tree.ancestor_CR, tree.distance_CC)

    @property
    def groups_N(self) -> Int[np.ndarray, " N"]:
        """Of the training rows."""
        return self.prepared.images.group_I[self.split.train]

    def groups_of(self, numbers: np.ndarray) -> Int[np.ndarray, " M"]:
        """Groups of some images, from 0 without gaps."""
        return number_groups(self.prepared.images.group_I[numbers])[0]

    def samples_of(self, numbers: np.ndarray) -> Int[np.ndarray, " M"]:
        """Samples likewise; an image whose sample is not known counts with its group."""
        images = self.prepared.images
        sample = images.sample_I[numbers]
        names = np.where(sample >= 0, sample, len(images.samples) + images.group_I[numbers])
        return number_groups(names)[0]

    def judged(self, numbers: np.ndarray, truth: np.ndarray, probabilities: np.ndarray) -> Judged:
        """Some images and what a probe says of them."""
        return Judged(truth, probabilities, self.groups_of(numbers), self.samples_of(numbers))

    @cached_property
    def held_N(self) -> np.ndarray:
        """Training rows on which temperature and corrections are fitted."""
        return validation_rows(self.split.train_label, self.groups_N, SEED)

    @property
    def prior_K(self) -> Float[np.ndarray, " K"]:
        """Shares of the classes among the training rows."""
        return np.bincount(self.split.train_label, minlength=self.classes) / len(self.split.train)

    def asks(self, *families: str) -> bool:
        """Whether the suite wants any of these metrics."""
        return bool(set(families) & set(self.prepared.suite.metrics))


def judge_probe(contender: str, probe: str, rows_I: Rows, task: Task) -> dict[str, tuple[Scores, Called]]:
    """Name of each answer of a probe on a split, its figures, and what images were called, for comparing.

    Args:
        rows_I: features or patch tokens of all images of the suite, in its order.
    """
    split = task.split
    train, test = _take(rows_I, split.train), _take(rows_I, split.test)
    asked = ask(probe, train, split.train_label, task.classes, task.groups_N, test, SEED)
    fitted_on = _validation(probe, train, asked.held, task)
    found = {}
    for name, test_MK in asked.answers.items():
        judged = task.judged(split.test, split.test_label, test_MK)
        validation = fitted_on.get(name)
        scores = judge(
            contender, split.name, name, judged, task.labels, validation=validation, prior_C=task.prior_K,
            seed=SEED,
        )  # fmt: skip
        found[name] = _only_asked(scores, task), judged.called
    return found


def judge_head(
    contender: str, head: LearnedHead, rows_ID: Float[np.ndarray, "I D"], task: Task
) -> tuple[Scores, Called]:
    """As judge_probe, of a head that learnt its classes elsewhere; nothing is fitted.

    Raises:
        ValueError: it knows none of the classes.
    """
    split, suite = task.split, task.prepared.suite
    asked = [task.prepared.classes[c] for c in split.classes]
    found_MK = head.probabilities(rows_ID[split.test], asked, suite.level, suite.pass_over)
    judged = task.judged(split.test, split.test_label, found_MK)
    scores = judge(contender, split.name, NAME, judged, task.labels, seed=SEED)
    return _only_asked(scores, task), judged.called


def judge_few_shot(contender: str, rows_ID: Float[np.ndarray, "I D"], task: Task) -> list[Scores]:
    """Macro-F1 of the regression learned from a few images of each class: mean over draws of them."""
    split = task.split
    truth_M, groups_M = split.test_label, task.groups_of(split.test)

    def score(truth: np.ndarray, probabilities: np.ndarray) -> float:
        return count_classes(truth, most_probable(probabilities), task.classes).macro_f1

    found = few_shot(
        Logistic(), rows_ID[split.train], split.train_label, task.classes, task.groups_N,
        rows_ID[split.test], truth_M, score, SEED,
    )  # fmt: skip
    images, groups = len(truth_M), int(groups_M.max()) + 1

    def figure(one: FewShot) -> Interval:
        return Interval(one.mean, None, None, groups, f"sd {one.sd:.3f} of {len(one.scores)} draws")

    return [
        Scores(contender, split.name, f"{FEW_SHOT} n={one.shots}", images, groups, {"macro_f1": figure(one)})
        for one in found
    ]


def _validation(probe: str, train: Rows, held: HeldBack | None, task: Task) -> dict[str, Judged]:
    """What the probe says of training rows that it did not learn from; nothing if no figure needs it.

    Args:
        held: such rows, where the probe held some back to choose its setting: nothing more is then fitted.
    """
    labels_N = task.split.train_label
    held_N = task.held_N if held is None else held.rows_N
    if not task.asks(*FITTED_FIGURES) or not held_N.any() or held_N.all():
        return {}
    if held is None:
        answers = ask(
            probe, _take(train, ~held_N), labels_N[~held_N], task.classes, task.groups_N[~held_N],
            _take(train, held_N), SEED,
        ).answers  # fmt: skip
    else:
        answers = {probe: held.found_HC}
    # Of a class that was not learned every row has no chance: it says nothing of how sure the probe is.
    learned_H = np.isin(labels_N[held_N], labels_N[~held_N])
    if not learned_H.any():
        return {}
    numbers, truth_H = task.split.train[held_N][learned_H], labels_N[held_N][learned_H]
    return {name: task.judged(numbers, truth_H, found[learned_H]) for name, found in answers.items()}


def judge_features(contender: str, rows_ID: Float[np.ndarray, "I D"], task: Task) -> list[Scores]:
    """What the features are asked beside the classes: the instrument, other instruments, the unknown."""
    found = []
    for family, figures_of in (
        ("instrument_probe", _instrument),
        ("retrieval", _retrieval),
        ("novelty", _novelty),
    ):
        figures = figures_of(rows_ID, task) if task.asks(family) else None
        if figures:
            groups = int(task.groups_of(task.split.test).max()) + 1
            images = len(task.split.test)
            found.append(Scores(contender, task.split.name, family, images, groups, figures))
    return found


def _instrument(rows_ID: np.ndarray, task: Task) -> dict[str, Interval] | None:
    """How well the instrument is told; None where there is one alone on a side."""
    split, instrument_I = task.split, task.prepared.images.instrument_I
    known, train_N = np.unique(instrument_I[split.train], return_inverse=True)
    tested = np.isin(instrument_I[split.test], known)
    truth_M = np.searchsorted(known, instrument_I[split.test][tested])
    if len(np.unique(truth_M)) < 2:
        return None
    asked = rows_ID[split.test[tested]]
    answers = ask(HEADLINE, rows_ID[split.train], train_N, len(known), task.groups_N, asked, SEED).answers
    predicted_M = most_probable(answers[HEADLINE])
    groups_M = task.groups_of(split.test[tested])
    return instrument_figures(truth_M, predicted_M, len(known), groups_M, SEED)


def _retrieval(rows_ID: np.ndarray, task: Task) -> dict[str, Interval] | None:
    """Whether the nearest images of other instruments show the same class; None if they share none."""
    split, instrument_I = task.split, task.prepared.images.instrument_I[task.split.test]
    pairs = np.unique(np.stack([split.test_label, instrument_I]), axis=1)
    if np.bincount(pairs[0]).max() < 2:
        return None
    whiten = fit_whitening(rows_ID[split.train])
    found = cross_instrument_retrieval(whiten(rows_ID[split.test]), split.test_label, instrument_I)
    return retrieval_figures(found, task.groups_of(split.test), SEED)


def _novelty(rows_ID: np.ndarray, task: Task) -> dict[str, Interval] | None:
    """How well images of classes that were never learned stand out; None where no class is left for it."""
    split = task.split
    hash_K = np.array([draw(name.encode()) for name in task.labels.names])
    novel_K = hash_K.argsort().argsort() < int(NOVEL_SHARE * task.classes)
    number_K = np.where(novel_K, -1, np.cumsum(~novel_K) - 1)
    train_N, test_M = number_K[split.train_label], number_K[split.test_label]
    held_N = task.held_N
    sides = (train_N[~held_N], train_N[held_N], test_M)
    if (~novel_K).sum() < 2 or any((side < 0).all() or (side >= 0).all() for side in sides[1:]):
        return None

    learned = ~held_N & (train_N >= 0)
    rows, classes, groups = split.train[learned], int((~novel_K).sum()), task.groups_N[learned]
    both = np.concatenate([split.train[held_N], split.test])
    # One fit answers for both: a threshold means something for the scores of one model alone.
    found = ask(HEADLINE, rows_ID[rows], train_N[learned], classes, groups, rows_ID[both], SEED).answers[
        HEADLINE
    ]

    def community(found_MK: Float32[np.ndarray, "M K"], numbers: np.ndarray, truth: np.ndarray) -> Community:
        samples = task.samples_of(numbers)
        return Community(truth, most_probable(found_MK), max_softmax(found_MK), samples, classes)

    held = int(held_N.sum())
    validation = community(found[:held], split.train[held_N], train_N[held_N])
    judged = community(found[held:], split.test, test_M)
    return novelty_figures(judged, task.groups_of(split.test), validation, SEED)


def tasks_of(prepared: Prepared) -> list[Task]:
    """One for each split."""
    return [Task(prepared, split) for split in prepared.splits]


def _take(rows: Rows, which: np.ndarray) -> Rows:
    return rows[which] if isinstance(rows, np.ndarray) else rows.take(which)


def _only_asked(scores: Scores, task: Task) -> Scores:
    """Without figures of families that the suite does not ask for."""
    kept = {name: found for name, found in scores.figures.items() if task.asks(FIGURES[name].family)}
    return replace(scores, figures=kept)
