"""Pairs of duplicates to sets of them, and the one of each set that stays.

Test: tests/curate/copies/test_keep.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EXACT, NEAR, EMBEDDING = KINDS = ("exact", "near", "embedding")
RANK = np.dtype([("key", "u8"), ("area", "i8"), ("validated", "?")])  # what decides who stays


@dataclass(frozen=True)
class Kept:
    """Rows that are duplicates, sorted; of each, the row kept in its place and of which kind it is."""

    row: np.ndarray
    kept: np.ndarray
    kind: np.ndarray


def keep_one(
    a: np.ndarray, b: np.ndarray, kind: np.ndarray, ranks_of: Callable[[np.ndarray], np.ndarray]
) -> Kept:
    """Of all that hang together by pairs, keep one: validated before others, then the largest, then by key.

    Args:
        a, b: rows of pairs.
        kind: of each pair, as in KINDS.
        ranks_of: rows -> their records of what decides.
    """
    rows, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    left, right = places[: len(a)], places[len(a) :]
    sets: list[np.ndarray] = []
    parent = np.arange(len(rows))
    for k in range(len(KINDS)):
        parent = _joined(parent, left[kind == k], right[kind == k])
        sets.append(parent)
    ranks = ranks_of(rows)
    by_rank = np.lexsort((ranks["key"], -ranks["area"], ~ranks["validated"], sets[-1]))
    _, first = np.unique(sets[-1][by_rank], return_index=True)
    best_of_set = np.zeros(len(rows), np.int64)
    best_of_set[sets[-1][by_rank[first]]] = by_rank[first]
    best = best_of_set[sets[-1]]
    found = np.select([one == one[best] for one in sets], range(len(KINDS)), 0)
    dropped = best != np.arange(len(rows))
    return Kept(rows[dropped], rows[best[dropped]], found[dropped])


def _joined(parent: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Union-find: the smallest member of the set of each, after joining pairs to what was joined before."""
    up = parent.tolist()

    def root(i: int) -> int:
        while up[i] != i:
            up[i] = up[up[i]]
            i = up[i]
        return i

    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        x, y = root(i), root(j)
        up[max(x, y)] = min(x, y)
    return np.array([root(i) for i in range(len(up))], np.int64)
