"""Which training rows are held back to choose a setting: whole groups, as the test rows are.

Rows of one bin or frame resemble each other: chosen on rows of groups that were learned from, a probe would
be regularised too little for groups that were not.
Letters: N training rows. Test: tests/evaluate/probes/test_validation.py.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

SHARE = 0.2  # of the training rows
LARGEST_SHARE = 0.4  # no group that would bring it over this is held back
DRAWS = 32  # of groups, of which the one is taken that leaves most classes on both sides


def validation_rows(
    labels_N: Int[np.ndarray, " N"], groups_N: Int[np.ndarray, " N"], seed: int
) -> Bool[np.ndarray, " N"]:
    """True for the rows held back: about SHARE of them, in whole groups.

    Of DRAWS draws of groups the one is taken that leaves most classes with rows on both sides. Where no group
    can be held back (there is one, or they are too large), a SHARE of each class is, rounded down: then every
    class keeps rows to be learned from, and rows of one group are on both sides.
    """
    draw = np.random.default_rng(seed)
    names, group_N = _own_where_unknown(groups_N)
    size_G = np.bincount(group_N, minlength=names)
    best_N, most = np.zeros(len(labels_N), bool), 0
    for _ in range(DRAWS):
        held_N = _draw_groups(size_G, draw)[group_N]
        both = len(np.intersect1d(labels_N[held_N], labels_N[~held_N]))
        if both > most:
            best_N, most = held_N, both
    return best_N if most else _of_each_class(labels_N, draw)


def _own_where_unknown(groups_N: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of groups, and that of each row from 0 on."""
    groups_N = groups_N.astype(np.int64)
    alone_N = groups_N < 0
    named, found_N = np.unique(groups_N, return_inverse=True)
    found_N = found_N.reshape(-1)
    found_N[alone_N] = len(named) + np.arange(int(alone_N.sum()))
    return len(named) + int(alone_N.sum()), found_N


def _draw_groups(size_G: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Groups in random order until they hold SHARE of the rows."""
    rows = int(size_G.sum())
    held_G, count = np.zeros(len(size_G), bool), 0
    for group in draw.permutation(np.flatnonzero(size_G)):
        if count >= SHARE * rows:
            break
        if count + size_G[group] <= LARGEST_SHARE * rows:
            held_G[group], count = True, count + int(size_G[group])
    return held_G


def _of_each_class(labels_N: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    order_N = draw.random(len(labels_N))
    held_N = np.zeros(len(labels_N), bool)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        held_N[rows[np.argsort(order_N[rows])][: int(SHARE * len(rows))]] = True
    return held_N


def validation_score(truth_M: Int[np.ndarray, " M"], found_MC: Float[np.ndarray, "M C"]) -> float:
    """Macro-F1 of the most probable classes, by which a setting is chosen; −1 where one is not finite."""
    from sklearn.metrics import f1_score

    if not np.isfinite(found_MC).all():
        return -1.0
    predicted_M = found_MC.argmax(axis=1)
    present = np.unique(truth_M)
    return float(f1_score(truth_M, predicted_M, labels=present, average="macro", zero_division=0))
