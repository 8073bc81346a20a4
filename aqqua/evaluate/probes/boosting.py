"""Gradient boosting: the probe of handcrafted features, whose units and shapes a linear layer cannot use.

Letters: N training rows, M asked rows, D width, C classes, K classes that occur in training.
Test: tests/evaluate/probes/test_boosting.py. Source of the learner: scikit-learn, HistGradientBoosting.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from aqqua.evaluate.probes.probe import Always, HeldBack, Predictor, labelled, over_all_classes

CHUNK = 16384  # rows asked at a time


@dataclass(frozen=True)
class Boosting:
    """Trees, as many rounds as groups held back want, then fitted to all rows."""

    rounds: int = 100  # at most; each adds one tree per class
    rate: float = 0.1
    leaves: int = 31

    def fit(
        self,
        train_ND: Float[np.ndarray, "N D"],
        labels_N: Int[np.ndarray, " N"],
        classes: int,
        groups_N: Int[np.ndarray, " N"],
        seed: int = 0,
    ) -> Predictor:
        """See Probe.fit."""
        known = labelled(train_ND, labels_N, classes, groups_N, seed, "boosting")
        if isinstance(known, Always):
            return known
        rounds, asked_N, found_HK = self._choose(train_ND, known.label_N, known.held_N, seed)
        held = None
        if found_HK is not None:
            held = HeldBack(asked_N, over_all_classes(found_HK, known.present_K, classes))
        trees = self._trees(rounds, seed).fit(train_ND, known.label_N)
        return Trees(trees, known.present_K, classes, rounds, held)

    def _choose(
        self, train_ND: np.ndarray, label_N: np.ndarray, held_N: np.ndarray, seed: int
    ) -> tuple[int, np.ndarray, np.ndarray | None]:
        """Rounds of least log loss on the rows held back, of classes that are left to be learned from.

        And which rows these are, and what the trees without them say of them, [H, K]; None if there are none.
        """
        left_K, kept_n = np.unique(label_N[~held_N], return_inverse=True)
        asked_N = held_N & np.isin(label_N, left_K)
        if not asked_N.any() or len(left_K) == 1:
            return self.rounds, asked_N, None
        trees = self._trees(self.rounds, seed).fit(train_ND[~held_N], kept_n)
        truth_H = np.searchsorted(left_K, label_N[asked_N])
        at = np.arange(len(truth_H)), truth_H
        rounds, least, best_HK = 0, np.inf, np.zeros((len(truth_H), int(label_N.max()) + 1))
        for done, found in enumerate(trees.staged_predict_proba(train_ND[asked_N])):
            if (loss := float(-np.log(found[at].clip(1e-15)).mean())) < least:
                rounds, least = done + 1, loss
                best_HK[:, left_K] = found
        return rounds, asked_N, best_HK

    def _trees(self, rounds: int, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=rounds, learning_rate=self.rate, max_leaf_nodes=self.leaves, early_stopping=False,
            random_state=seed,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trees:
    """Fitted trees."""

    trees: Any  # HistGradientBoostingClassifier
    present_K: Int[np.ndarray, " K"]
    classes: int
    rounds: int  # that were chosen
    held: HeldBack | None  # None where there was nothing to choose

    def probabilities(self, rows_MD: Float[np.ndarray, "M D"]) -> Float32[np.ndarray, "M C"]:
        """See Predictor."""
        starts = range(0, len(rows_MD), CHUNK)
        parts = [self.trees.predict_proba(rows_MD[at : at + CHUNK]) for at in starts]
        found_MK = np.concatenate([np.zeros((0, len(self.present_K))), *parts])
        return over_all_classes(found_MK, self.present_K, self.classes)
