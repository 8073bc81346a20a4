"""Can the map be believed? Trustworthiness and continuity, and who is next to whom on it.

Trustworthiness falls where the map puts next to a point what is far from it in the features; continuity,
where it tears away what is near in them. With r the rank of a wrong neighbour in the other space,

    1 - 2 / (n k (2N - 3k - 1)) · Σ_i Σ_j max(0, r(i, j) - k),

as scikit-learn computes trustworthiness, here over n points drawn by the seed while neighbours and ranks are
among all N: a mean of the same terms, which memory allows for a million points.

Source: Venna & Kaski 2001, "Neighborhood preservation in nonlinear projection methods". Letter key: N points,
Q drawn ones, R width, K neighbours. Test: tests/explore/atlas/test_trust.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from aqqua.curate.clusters.seeding import stream_of
from aqqua.plan.permute import permute

_CELLS = 1 << 25  # distances in memory at a time: 128 MB, some five times


@dataclass(frozen=True)
class Trust:
    """What the map keeps of the neighbourhoods."""

    trustworthiness: float  # 1 at best
    continuity: float
    query_Q: Int64[np.ndarray, " Q"]  # the points drawn
    row_QK: Int64[np.ndarray, "Q K"]  # their neighbours on the map


def trust(
    unit_NR: Float[np.ndarray, "N R"],
    xy_N2: Float32[np.ndarray, "N 2"],
    k: int,
    sampled: int,
    seed: int,
    tell: Callable[[int], None] = lambda _: None,
) -> Trust:
    """Trustworthiness and continuity of a map.

    Args:
        unit_NR: features of length one.
        k: neighbours; below half the points, as the formula needs.
        sampled: points drawn at most.
        tell: takes how many of them are done.

    Raises:
        ValueError: k is not 1 to less than half the points.
    """
    total = len(unit_NR)
    if not 1 <= k < total / 2:
        raise ValueError(f"trust: k must be 1 to less than half of {total} points, got {k}; lower it")
    drawn = permute(np.arange(min(sampled, total), dtype=np.uint64), total, seed, stream_of("atlas trust"))
    query_Q = np.sort(drawn.astype(np.int64))
    step = max(1, _CELLS // total)
    beyond, rows = np.zeros(2), []
    for first in range(0, len(query_Q), step):
        query_I = query_Q[first : first + step]
        by_feature_IN, by_map_IN = _feature_distances(unit_NR, query_I), _map_distances(xy_N2, query_I)
        row_IK = by_map_IN.topk(k, dim=1, largest=False).indices.numpy()
        near_IK = by_feature_IN.topk(k, dim=1, largest=False).indices.numpy()
        beyond += [_beyond(by_feature_IN.numpy(), row_IK), _beyond(by_map_IN.numpy(), near_IK)]
        rows.append(row_IK)
        tell(first + len(query_I))
    lost = beyond * 2 / (len(query_Q) * k * (2 * total - 3 * k - 1))
    return Trust(float(1 - lost[0]), float(1 - lost[1]), query_Q, np.concatenate(rows))


def _beyond(distance_IN: Float32[np.ndarray, "I N"], row_IK: Int64[np.ndarray, "I K"]) -> float:
    """Σ max(0, rank - k) of some neighbours, by these distances; the nearest has rank 1."""
    of_neighbour_IK = np.take_along_axis(distance_IN, row_IK, axis=1)
    ordered_IN = np.sort(distance_IN, axis=1)
    both = zip(ordered_IN, of_neighbour_IK, strict=True)
    nearer_IK = np.stack([np.searchsorted(ordered_N, distance_K) for ordered_N, distance_K in both])
    return float((nearer_IK + 1 - row_IK.shape[1]).clip(0).sum())


def _feature_distances(unit_NR: np.ndarray, query_I: np.ndarray) -> Tensor:
    """Cosine distances to all points, infinite to itself."""
    query_IR = torch.from_numpy(unit_NR[query_I]).float()
    pieces = (torch.from_numpy(unit_NR[at : at + 65_536]).float() for at in range(0, len(unit_NR), 65_536))
    distance_IN = 1 - torch.cat([query_IR @ piece.T for piece in pieces], dim=1)
    distance_IN[torch.arange(len(query_I)), torch.from_numpy(query_I)] = torch.inf
    return distance_IN


def _map_distances(xy_N2: np.ndarray, query_I: np.ndarray) -> Tensor:
    """Squared distances on the map, infinite to itself."""
    xy = torch.from_numpy(np.ascontiguousarray(xy_N2, np.float32))
    at_I2 = xy[torch.from_numpy(query_I)]
    distance_IN = (at_I2[:, :1] - xy[:, 0]).square_().add_((at_I2[:, 1:] - xy[:, 1]).square_())
    distance_IN[torch.arange(len(query_I)), torch.from_numpy(query_I)] = torch.inf
    return distance_IN
