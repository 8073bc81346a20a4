"""Sums of vectors by cluster, in whole numbers: any order of adding gives the same bits.

Vectors are rounded to multiples of 2^-s and added as int64, where s is as large as the sum of all of them
allows: of a million vectors of length one, multiples of 2^-42. So a sum does not depend on the number of
ranks, threads or chunks, nor on the order in which a GPU's atomic additions happen.

Letter key: I vectors, K clusters, D width. Test: tests/curate/clusters/test_exact_sums.py.
"""

import math

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from aqqua.train.ranks import Ranks

LARGEST = 1e15  # of any number: its square times a width of 10^7 is still a float32
_BITS = 62
_MOST = 100  # largest s: 2^s must be a float32


class ClusterSums:
    """Counts, sums of vectors and sums of squared distances of K clusters."""

    def __init__(self, clusters: int, width: int, rows: int, largest: float, device: torch.device) -> None:
        """
        Args:
            rows: most vectors that will be added, on all ranks together.
            largest: of the absolute value of any number of a vector or a centroid.
        """
        self._scale = scale_of(largest * rows)
        # No two points of a cube of side 2·largest are farther apart; squares may be rounded up a little.
        self._squared_scale = scale_of(4.1 * width * largest * largest * rows)
        self.count_K = torch.zeros(clusters, dtype=torch.int64, device=device)
        self._sum_KD = torch.zeros(clusters, width, dtype=torch.int64, device=device)
        self._squared_K = torch.zeros(clusters, dtype=torch.int64, device=device)

    def add(
        self, x_ID: Float32[Tensor, "I D"], label_I: Int64[Tensor, " I"], squared_I: Float32[Tensor, " I"]
    ) -> None:
        """Some vectors, the cluster of each, and its squared distance to the centroid."""
        self.count_K += torch.bincount(label_I, minlength=len(self.count_K))
        step = len(x_ID) if x_ID.is_cuda else 512  # of a CPU: what is still in the cache
        for first in range(0, len(x_ID), step):
            tile = slice(first, first + step)
            self._sum_KD.index_add_(0, label_I[tile], (x_ID[tile] * self._scale).to(torch.int64))
        squared = (squared_I.double() * self._squared_scale).to(torch.int64)
        self._squared_K.index_add_(0, label_I, squared)

    def reduce(self, ranks: Ranks) -> None:
        """Over all ranks, in place."""
        for x in (self.count_K, self._sum_KD, self._squared_K):
            ranks.all_reduce(x)

    @property
    def inertia(self) -> float:
        """Sum of all squared distances."""
        return int(self._squared_K.sum()) / self._squared_scale

    @property
    def inertia_K(self) -> Float64[Tensor, " K"]:
        """The same of each cluster."""
        return self._squared_K.double() / self._squared_scale

    def means(self, otherwise_KD: Float64[Tensor, "K D"]) -> Float64[Tensor, "K D"]:
        """Of each cluster; of one without vectors, the row of `otherwise_KD`."""
        mean_KD = self._sum_KD.double() / self._scale / self.count_K.clamp_min(1)[:, None]
        return torch.where(self.count_K[:, None] > 0, mean_KD, otherwise_KD)


def scale_of(most: float) -> float:
    """Power of two by which a sum of at most this may be multiplied and still be an int64."""
    return 2.0 ** min(_MOST, _BITS - math.ceil(math.log2(most))) if most > 0 else 1.0
