"""Neighbourhood purity: how often a neighbour is of the same kind, and how often it would be by chance.

By label, it should be high; by instrument, near chance: else the model sees cameras before animals. Purity of
an atlas of one instrument is 1, as chance is. Letter key: N points, K neighbours. Test:
tests/explore/atlas/test_purity.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from aqqua.explore.atlas.neighbours import NONE

_CHUNK = 65_536


@dataclass(frozen=True)
class Purity:
    """Of the points that have a kind, with those of their neighbours that have one."""

    share: float | None  # 0 to 1, mean over points; None: nothing to compare
    by_kind: float | None  # the same as a mean over kinds, so that rare ones count as much
    chance: float | None  # that two points drawn at random are of one kind


def purity(
    row_QK: Int64[np.ndarray, "Q K"],
    kind_N: Int64[np.ndarray, " N"],
    query_Q: Int64[np.ndarray, " Q"] | None = None,
) -> Purity:
    """Purity of neighbourhoods.

    Args:
        row_QK: neighbours of each point, or of some; NONE where there is none.
        kind_N: number of each point's kind; -1 unknown: neither asked nor counted.
        query_Q: the points that row_QK is about; None: all.
    """
    query_Q = np.arange(len(kind_N)) if query_Q is None else query_Q
    kind_Q = kind_N[query_Q]
    share_Q = np.full(len(query_Q), np.nan)
    for first in range(0, len(query_Q), _CHUNK):
        part = slice(first, first + _CHUNK)
        row_IK = row_QK[part]
        kind_IK = np.where(row_IK == NONE, -1, kind_N[np.where(row_IK == NONE, 0, row_IK)])
        known_I = (kind_IK >= 0).sum(axis=1)
        same_I = ((kind_IK == kind_Q[part][:, None]) & (kind_IK >= 0)).sum(axis=1)
        share_Q[part] = np.where((known_I > 0) & (kind_Q[part] >= 0), same_I / known_I.clip(1), np.nan)
    asked = np.isfinite(share_Q)
    if not asked.any():
        return Purity(None, None, None)
    kinds, number = np.unique(kind_Q[asked], return_inverse=True)
    by_kind = np.bincount(number, share_Q[asked]) / np.bincount(number, minlength=len(kinds))
    return Purity(float(share_Q[asked].mean()), float(by_kind.mean()), _chance(kind_N[kind_N >= 0]))


def foreign_purity(
    row_NK: Int64[np.ndarray, "N K"], label_N: Int64[np.ndarray, " N"], group_N: Int64[np.ndarray, " N"]
) -> Purity:
    """Of neighbours in other instruments: how often they have the same label.

    Asked are only points whose label other instruments have too: sources name the same animal differently.
    Chance is that of a labelled point drawn from the other instruments.
    """
    labelled = label_N >= 0
    count_GC = np.zeros((int(group_N.max()) + 1, int(label_N.max()) + 1 or 1), np.int64)
    np.add.at(count_GC, (group_N[labelled], label_N[labelled]), 1)
    elsewhere_GC = count_GC.sum(axis=0) - count_GC
    query_Q = np.flatnonzero(labelled)
    query_Q = query_Q[elsewhere_GC[group_N[query_Q], label_N[query_Q]] > 0]
    found = purity(row_NK[query_Q], label_N, query_Q)
    if found.share is None:
        return found
    others_Q = elsewhere_GC.sum(axis=1)[group_N[query_Q]]
    chance = float((elsewhere_GC[group_N[query_Q], label_N[query_Q]] / others_Q).mean())
    return Purity(found.share, found.by_kind, chance)


def _chance(kind_M: Int64[np.ndarray, " M"]) -> float | None:
    count_C = np.bincount(kind_M).astype(np.float64)
    total = count_C.sum()
    return float((count_C * (count_C - 1)).sum() / (total * (total - 1))) if total > 1 else None
