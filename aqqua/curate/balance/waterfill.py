"""Water-filling: dealing a total out so that the small keep all they have and the large get equal shares.

A level c is found with Σ min(c, size) = target: as if water were poured into vessels of unequal height that
stand side by side. Down a tree it is repeated: what a cluster got is poured over its children. Sizes are
what a child can take (its images, times how often one may be repeated), and all parents are served at once
by one sort: O(n log n).

Letters: K children, G their parents; N leaves of a tree.
Source of the balanced tree: Vo et al. 2024, Automatic Data Curation for Self-Supervised Learning.
Test: tests/curate/balance/test_waterfill.py.
"""

import numpy as np
from jaxtyping import Float64, Int64

from aqqua import _core


def water_fill_counts(
    sizes_K: Int64[np.ndarray, " K"], target: int, seed: int = 0
) -> Int64[np.ndarray, " K"]:
    """Whole numbers min(c, size) that add up to `target` exactly.

    What the whole level leaves over, less than one for each of those above it, goes to some of them, drawn by
    `seed`.

    Args:
        sizes_K: what each can give, at least 0.
        target: 0 to their sum.

    Raises:
        ValueError: a size is negative, or the target is not 0 to their sum.
    """
    sizes_K = np.asarray(sizes_K, np.int64)
    if len(sizes_K) and sizes_K.min() < 0:
        raise ValueError(f"water_fill: sizes must be at least 0, got {sizes_K.min()}; correct them")
    total = int(sizes_K.sum())
    if not 0 <= target <= total:
        raise ValueError(
            f"water_fill: the target must be 0 to the sum of the sizes, {total}, got {target}; lower it"
        )
    ordered = np.sort(sizes_K)
    below = np.cumsum(ordered) - ordered  # of all smaller ones
    filled = below + ordered * np.arange(len(ordered), 0, -1)  # were the level just this one's size
    first = int(np.searchsorted(filled, target))
    if first == len(ordered):
        return sizes_K.copy()
    level, rest = divmod(target - int(below[first]), len(ordered) - first)
    counts_K = np.minimum(sizes_K, level)
    above = np.flatnonzero(sizes_K > level)
    if rest:
        chosen = _core.permute(np.arange(rest, dtype=np.uint64), len(above), seed, 0)
        counts_K[above[chosen.astype(np.int64)]] += 1
    return counts_K


def water_fill(
    room_K: Float64[np.ndarray, " K"],
    target_G: Float64[np.ndarray, " G"],
    group_K: Int64[np.ndarray, " K"] | None = None,
    demand_K: Float64[np.ndarray, " K"] | None = None,
) -> Float64[np.ndarray, " K"]:
    """Shares min(c · demand, room), with a level c of each group for which they add up to its target.

    Args:
        room_K: the most that each can take, finite, at least 0.
        target_G: what each group has to deal out, at least 0; where its members have no room for it, they are
            filled and the rest is left over.
        group_K: 0 to G - 1; None: all are one group.
        demand_K: in which proportion they share while there is room, above 0; None: equally.

    Returns:
        Sums are the targets to about 1e-12 of the sum of all room.

    Raises:
        ValueError: a number is outside its range.
    """
    group_K = np.zeros(len(room_K), np.int64) if group_K is None else group_K
    demand_K = np.ones(len(room_K)) if demand_K is None else demand_K
    _check(room_K, target_G, demand_K)
    at_K = room_K / demand_K  # the level at which each is full
    order = np.lexsort((at_K, group_K))
    group, at, room, demand = group_K[order], at_K[order], room_K[order], demand_K[order]
    sizes_G = np.bincount(group, minlength=len(target_G))
    first_G = np.cumsum(sizes_G) - sizes_G
    below = _sums_before(room, first_G[group])
    demand_G = np.bincount(group, weights=demand, minlength=len(target_G))
    left = demand_G[group] - _sums_before(demand, first_G[group])  # demand of it and those behind it
    full = below + left * at < target_G[group]
    full_G = np.bincount(group, weights=full, minlength=len(target_G)).astype(np.int64)
    share = room.copy()
    open_G = np.flatnonzero(full_G < sizes_G)  # some member is not full
    at_first = first_G[open_G] + full_G[open_G]
    level_G = np.full(len(target_G), np.inf)
    level_G[open_G] = np.maximum(target_G[open_G] - below[at_first], 0) / left[at_first]
    share = np.minimum(level_G[group] * demand, room)
    shares_K = np.empty_like(share)
    shares_K[order] = share
    return shares_K


def _sums_before(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Of sorted members of groups: the sum of those before each one in its group."""
    before = np.concatenate([[0.0], np.cumsum(values)])
    return before[:-1] - before[first]


def _check(room_K: np.ndarray, target_G: np.ndarray, demand_K: np.ndarray) -> None:
    for name, values, least in (("room", room_K, 0.0), ("targets", target_G, 0.0)):
        if not (np.isfinite(values) & (values >= least)).all():
            raise ValueError(f"water_fill: {name} must be finite and at least 0, got {values.min()}; correct")
    if not (np.isfinite(demand_K) & (demand_K > 0)).all():
        raise ValueError(f"water_fill: demands must be finite and above 0, got {demand_K.min()}; correct")


def fill_tree(
    room_N: Float64[np.ndarray, " N"],
    path_NL: Int64[np.ndarray, "N L"],
    target_G: Float64[np.ndarray, " G"],
) -> Float64[np.ndarray, " N"]:
    """Water-filling from the roots of trees down to their leaves.

    Args:
        room_N: the most that each leaf can take.
        path_NL: where each leaf lies: its tree (0 to G - 1), then a number of its branch at each level, the
            coarsest first; a number counts only together with those before it, so leaves of two parents
            may share one. Leaves must differ.
        target_G: of each tree.

    Raises:
        ValueError: a number is outside its range.
    """
    target, parent_N = np.asarray(target_G, np.float64), path_NL[:, 0]
    for level in range(1, path_NL.shape[1]):
        node_N, first = _numbered(parent_N, path_NL[:, level])
        room = np.bincount(node_N, weights=room_N, minlength=len(first))
        target = water_fill(room, target, parent_N[first])
        parent_N = node_N
    if len(np.unique(parent_N)) != len(parent_N):
        raise ValueError("fill_tree: leaves must differ, got two with one path; add them up first")
    return np.minimum(target[parent_N], room_N)


def _numbered(parent_N: np.ndarray, branch_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (parent, branch) as 0, 1, ... and where each is first seen."""
    _, branch_N = np.unique(branch_N, return_inverse=True)
    both = parent_N * (int(branch_N.max(initial=0)) + 1) + branch_N
    _, first, node_N = np.unique(both, return_index=True, return_inverse=True)
    return node_N, first
