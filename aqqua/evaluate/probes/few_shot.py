"""Few-shot: how good is a probe when each class has 1, 5, 10 or 20 labelled images.

A handful of images says little by itself: several draws are made, and their spread is told.
Letters: N training rows, M asked rows, D width, C classes.
Test: tests/evaluate/probes/test_few_shot.py. Source: dinov2/eval/knn.py (n_per_class_list, n_tries).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from aqqua.evaluate.probes.probe import Advance, Probe
from aqqua.progress import silent

SHOTS = (1, 5, 10, 20)
TRIES = 5

Score = Callable[[Int[np.ndarray, " M"], Float32[np.ndarray, "M C"]], float]


@dataclass(frozen=True)
class FewShot:
    """Scores with `shots` rows of each class, one a try."""

    shots: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the tries."""
        return float(np.mean(self.scores))

    @property
    def sd(self) -> float:
        """Standard deviation over the tries (n − 1); 0 of a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


def few_shot(
    probe: Probe,
    train_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"],
    classes: int,
    groups_N: Int[np.ndarray, " N"],
    asked_MD: Float[np.ndarray, "M D"],
    truth_M: Int[np.ndarray, " M"],
    score: Score,
    seed: int,
    *,
    shots: Sequence[int] = SHOTS,
    tries: int = TRIES,
    advance: Advance = silent,
) -> list[FewShot]:
    """Fit a probe to few rows of each class, several times.

    Args:
        score: of the classes in truth and the probabilities found, for example macro-F1.
        shots: rows of each class; a class with fewer gives all it has.
        tries: draws for each of them.
        advance: is called with the fits done, len(shots) · tries in all.
    """
    found, done = [], 0
    for count in shots:
        scores = []
        for attempt in range(tries):
            rows = drawn_rows(labels_N, count, (seed, count, attempt))
            predictor = probe.fit(train_ND[rows], labels_N[rows], classes, groups_N[rows], seed)
            scores.append(score(truth_M, predictor.probabilities(asked_MD)))
            done += 1
            advance(done)
        found.append(FewShot(count, tuple(scores)))
    return found


def drawn_rows(
    labels_N: Int[np.ndarray, " N"], count: int, seed: int | tuple[int, ...]
) -> Int[np.ndarray, " n"]:
    """`count` rows of each class without replacement, or all of a class with fewer; in rising order."""
    order_N = np.random.default_rng(seed).random(len(labels_N))
    by_class = np.lexsort((order_N, labels_N))
    sorted_N = labels_N[by_class]
    rank_N = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
    return np.sort(by_class[rank_N < count])
