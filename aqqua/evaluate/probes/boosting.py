"""Gradient boosting: the probe of handcrafted features, whose units and shapes a linear layer cannot use.

Letters: N training rows, M asked rows, D width, C classes, K classes that occur in training.
Test: tests/evaluate/probes/test_boosting.py. Source of the learner: scikit-learn, HistGradientBoosting.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from aqqua.evaluate.probes.probe import Always, Predictor, check_rows, over_all_classes
from aqqua.evaluate.probes.validation import validation_rows

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
        check_rows(train_ND, labels_N, classes, groups_N, "boosting")
        present_K, label_N = np.unique(labels_N, return_inverse=True)
        if len(present_K) == 1:
            return Always(int(present_K[0]), classes)
        rounds = self._choose(train_ND, label_N, validation_rows(labels_N, groups_N, seed), seed)
        trees = self._trees(rounds, seed).fit(train_ND, label_N)
        return Trees(trees, present_K, classes, rounds)

    def _choose(self, train_ND: np.ndarray, label_N: np.ndarray, held_N: np.ndarray, seed: int) -> int:
        """Rounds of least log loss on the rows held back, of classes that are left to be learned from."""
        left_K, kept_n = np.unique(label_N[~held_N], return_inverse=True)
        asked_N = held_N & np.isin(label_N, left_K)
        if not asked_N.any() or len(left_K) == 1:
            return self.rounds
        trees = self._trees(self.rounds, seed).fit(train_ND[~held_N], kept_n)
        truth_M = np.searchsorted(left_K, label_N[asked_N])
        at = np.arange(len(truth_M)), truth_M
        losses = [
            -np.log(found[at].clip(1e-15)).mean() for found in trees.staged_predict_proba(train_ND[asked_N])
        ]
        return int(np.argmin(losses)) + 1

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

    def probabilities(self, rows_MD: Float[np.ndarray, "M D"]) -> Float32[np.ndarray, "M C"]:
        """See Predictor."""
        starts = range(0, len(rows_MD), CHUNK)
        parts = [self.trees.predict_proba(rows_MD[at : at + CHUNK]) for at in starts]
        found_MK = np.concatenate([np.zeros((0, len(self.present_K))), *parts])
        return over_all_classes(found_MK, self.present_K, self.classes)
