"""The finest clusters as they are counted for the page of a curation: sizes, labels, examples.

Memory is 20 · EXAMPLES + 16 bytes a cluster in arrays, and a few hundred for what it is called: the clusters
above it, its instrument, a count for each label. Letters: I images of a block, K clusters, E examples of one.
Test: tests/explore/test_curation_numbers.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from aqqua.curate.balance.weights import effective

EXAMPLES = 8  # of a cluster, nearest to its centroid and at random: so many each


class ClusterCounts:
    """Filled block by block, in the order of the dataset."""

    def __init__(self) -> None:
        self.images_K = np.zeros(0, np.int64)
        self.uses_K = np.zeros(0, np.float64)
        self.parents: dict[int, tuple[int, ...]] = {}  # numbers of the clusters above, from level 2 on
        self.instrument: dict[int, str] = {}
        self.labels: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._first_KE = np.full((0, EXAMPLES), -1, np.int64)
        self._near_KE = np.full((0, EXAMPLES), -1, np.int64)
        self._distance_KE = np.full((0, EXAMPLES), np.inf, np.float32)

    def add(
        self, cluster_I: Int64[np.ndarray, " I"], weight_I: Float64[np.ndarray, " I"], first: int
    ) -> None:
        """Count images, the first of which is row `first` of the dataset."""
        self._grow(int(cluster_I.max(initial=-1)) + 1)
        for i in np.flatnonzero(self.images_K[cluster_I] < EXAMPLES).tolist():
            slots = self._first_KE[cluster_I[i]]
            free = np.flatnonzero(slots < 0)
            if len(free):
                slots[free[0]] = first + i
        self.images_K += np.bincount(cluster_I, minlength=len(self.images_K))
        self.uses_K += np.bincount(cluster_I, weight_I, len(self.uses_K))

    def add_distances(self, cluster_I: Int64[np.ndarray, " I"], distance_I: np.ndarray, first: int) -> None:
        """Keep the nearest of each cluster."""
        self._grow(int(cluster_I.max(initial=-1)) + 1)
        for i in np.flatnonzero(distance_I < self._distance_KE[cluster_I].max(axis=1)).tolist():
            cluster = cluster_I[i]
            slot = self._distance_KE[cluster].argmax()
            if distance_I[i] < self._distance_KE[cluster, slot]:
                self._distance_KE[cluster, slot] = distance_I[i]
                self._near_KE[cluster, slot] = first + i

    def at_random(self, cluster: int) -> list[int]:
        """Rows of some of its images."""
        return [row for row in self._first_KE[cluster].tolist() if row >= 0]

    def nearest(self, cluster: int) -> list[int]:
        """Rows of the images nearest to its centroid, the nearest first; none where distances are unknown."""
        order = np.lexsort((self._near_KE[cluster], self._distance_KE[cluster]))
        return [row for row in self._near_KE[cluster, order].tolist() if row >= 0]

    def large(self, count: int) -> list[int]:
        """The `count` largest by images and the `count` largest by uses, by images."""
        by_images = np.argsort(-self.images_K, kind="stable")[:count]
        by_uses = np.argsort(-self.uses_K, kind="stable")[:count]
        return self.ordered(np.union1d(by_images, by_uses).tolist())

    def ordered(self, clusters: Iterable[int]) -> list[int]:
        """Those of them that have images, the largest first."""
        there = {k for k in clusters if 0 <= k < len(self.images_K) and self.images_K[k]}
        return sorted(there, key=lambda k: (-self.images_K[k], k))

    def effective(self) -> tuple[float, float]:
        """Effective number of clusters, by images and by uses."""
        return effective_number(self.images_K.tolist()), effective_number(self.uses_K.tolist())

    def _grow(self, clusters: int) -> None:
        more = max(clusters, 2 * len(self.images_K)) - len(self.images_K)
        if clusters > len(self.images_K):
            self.images_K = np.pad(self.images_K, (0, more))
            self.uses_K = np.pad(self.uses_K, (0, more))
            rows = ((0, more), (0, 0))
            self._first_KE = np.pad(self._first_KE, rows, constant_values=-1)
            self._near_KE = np.pad(self._near_KE, rows, constant_values=-1)
            self._distance_KE = np.pad(self._distance_KE, rows, constant_values=np.inf)


def effective_number(shares: Sequence[float] | Sequence[int]) -> float:
    """Effective number of what has these shares; 0 of nothing."""
    return effective(shares) if sum(shares) > 0 else 0.0
