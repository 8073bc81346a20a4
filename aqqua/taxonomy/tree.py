"""The tree of the classes of a set: what they have in common, and how far apart they are.

Nodes are taxa, told apart by kingdom, rank and name. Where one class knows the order of a family and another
does not, both get it. Every edge is one rank: where ranks between are unknown, they count as if they were
there, so that distances do not depend on how much of a lineage someone wrote down. A class with a qualifier
lies one edge below its taxon, next to the whole organism; two poses of one taxon are 0 apart. What is no
taxon hangs on a node of its own below the root, one edge below which lies each of its kinds.

Letter key: C classes, R ranks. Test: tests/taxonomy/test_taxon_tree.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from aqqua.taxonomy.classes import KINDS, RANKS, TaxonClass

_Key = tuple[str, int, str]  # kingdom, rank, name
_NO_TAXON = "no taxon"


@dataclass(frozen=True)
class Tree:
    """The tree of C classes.

    Args:
        classes: in the order of the arrays.
        nodes: rank and name of each node, in the order of their ids.
        ancestor_CR: id of each class's taxon at each of RANKS; -1 unknown, finer than the class, or no taxon.
        distance_CC: edges from class to class through their lowest common ancestor; symmetric, 0 on the
            diagonal.
    """

    classes: tuple[TaxonClass, ...]
    nodes: tuple[tuple[str, str], ...]
    ancestor_CR: Int32[np.ndarray, "C R"]
    distance_CC: Float32[np.ndarray, "C C"]

    @staticmethod
    def of(classes: Sequence[TaxonClass]) -> "Tree":
        """The tree of a set of classes.

        Raises:
            ValueError: a taxon would have two parents.
        """
        lineages = _completed(classes)
        keys = [
            (lineage[0] or "", rank, name)
            for lineage in lineages
            for rank, name in enumerate(lineage)
            if name is not None
        ]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        ancestor_CR = np.full((len(classes), len(RANKS)), -1, np.int32)
        for c, lineage in enumerate(lineages):
            for rank, name in enumerate(lineage):
                if name is not None:
                    ancestor_CR[c, rank] = number[lineage[0] or "", rank, name]
        nodes = tuple((RANKS[rank], name) for _, rank, name in number)
        return Tree(tuple(classes), nodes, ancestor_CR, _distances(classes, ancestor_CR))


def _completed(classes: Sequence[TaxonClass]) -> list[list[str | None]]:
    """Lineages, in which each taxon has the ancestors that any class knows of it."""
    lineages = [list(one.lineage) for one in classes]
    known = _known_ancestors(classes, lineages)
    for rank in range(len(RANKS) - 1, 0, -1):
        for lineage in lineages:
            name = lineage[rank]
            if name is not None:
                above = known[lineage[0] or "", rank, name]
                lineage[:rank] = [b if b is not None else a for a, b in zip(above, lineage, strict=False)]
    _known_ancestors(classes, lineages)  # what was filled in must agree too
    return lineages


def _known_ancestors(
    classes: Sequence[TaxonClass], lineages: Sequence[list[str | None]]
) -> dict[_Key, list[str | None]]:
    known: dict[_Key, list[str | None]] = {}
    first: dict[_Key, str] = {}  # the class that says so, for messages
    for one, lineage in zip(classes, lineages, strict=True):
        for rank, name in enumerate(lineage):
            if name is None:
                continue
            key = (lineage[0] or "", rank, name)
            above = known.setdefault(key, [None] * rank)
            other = first.setdefault(key, one.name)
            for i, ours in enumerate(lineage[:rank]):
                if above[i] is not None and ours is not None and above[i] != ours:
                    raise ValueError(
                        f"tree: {RANKS[rank]} {name} must have one {RANKS[i]}, got {above[i]} of {other} and "
                        f"{ours} of {one.name}; correct a lineage"
                    )
                above[i] = above[i] if above[i] is not None else ours
    return known


def _distances(classes: Sequence[TaxonClass], ancestor_CR: np.ndarray) -> np.ndarray:
    """Depths less twice the depth of what is common; the root has depth 0, a kingdom 1."""
    ranks = np.arange(1, len(RANKS) + 1)
    taxon_C = np.where(ancestor_CR >= 0, ranks, 0).max(axis=1, initial=0)
    below = [_below(one) for one in classes]
    depth_C = taxon_C + np.array([name != "" for name in below], int)
    same_CCR = (ancestor_CR[:, None] == ancestor_CR[None]) & (ancestor_CR >= 0)[:, None]
    common_CC = np.where(same_CCR, ranks, 0).max(axis=2, initial=0)
    no_taxon = taxon_C == 0
    depth_C = np.where(no_taxon, 2, depth_C)
    both = no_taxon[:, None] & no_taxon[None]
    common_CC = np.where(both, 1, common_CC)
    same_leaf = np.array([[a == b for b in below] for a in below], bool).reshape(common_CC.shape)
    # Of one taxon with one qualifier: the same place, whatever the pose.
    same_taxon = (common_CC == taxon_C[:, None]) & (common_CC == taxon_C[None]) & ~both
    common_CC = np.where((same_taxon | both) & same_leaf, depth_C[:, None], common_CC)
    return (depth_C[:, None] + depth_C[None] - 2 * common_CC).astype(np.float32)


def _below(one: TaxonClass) -> str:
    """What lies below the taxon: the qualifier; of what is no taxon, its kind."""
    if one.finest >= 0:
        return one.qualifier
    return one.qualifier if one.qualifier in KINDS else f"{_NO_TAXON} {one.name}"
