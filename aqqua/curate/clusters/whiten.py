"""Vectors made equally wide in every direction, so that no single one decides which are near.

Self-supervised features are often dominated by a few directions, such as brightness and size. Distances hear
little else, and so does k-means. The same formula serves the kNN of aqqua.evaluate, over rows in memory.

What comes out keeps its length. Divided by it, the many vectors near the mean, which have no direction to
speak of, would be blown up to noise as long as anything.

Sums of products are rounded to whole numbers chunk by chunk, so any number of ranks finds the same bits.
Source: Jégou & Chum 2012, "Negative evidences and co-occurences in image retrieval", section 3.
Letter key: I rows of a chunk, N all rows, D width, R axes.
Test: tests/curate/clusters/test_whiten_clusters.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from aqqua.curate.clusters.exact_sums import scale_of
from aqqua.curate.clusters.kmeans import largest_of
from aqqua.curate.clusters.vectors import Prepared
from aqqua.train.ranks import Ranks

FLOOR = 0.01  # of the largest standard deviation: narrower directions are noise, and are not blown up to 1


@dataclass(frozen=True)
class Whitening:
    """x ↦ (x − mean) axes."""

    mean_D: Float[np.ndarray, " D"]
    axes_DR: Float[np.ndarray, "D R"]  # principal axes, each divided by the deviation along it

    def __call__(self, rows_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N R"]:
        return (rows_ND - self.mean_D) @ self.axes_DR

    def on(self, device: torch.device) -> Callable[[Float32[Tensor, "I D"]], Float32[Tensor, "I R"]]:
        """The same of float32 tensors there."""
        mean_D, axes_DR = (torch.from_numpy(x).float().to(device) for x in (self.mean_D, self.axes_DR))
        return lambda x_ID: (x_ID - mean_D) @ axes_DR


def whitening_of(
    mean_D: Float64[np.ndarray, " D"],
    axes_DR: Float64[np.ndarray, "D R"],
    deviation_R: Float64[np.ndarray, " R"],
) -> Whitening:
    """Whitening by principal axes and the standard deviation s along each.

    Each axis is divided by sqrt(s² + (FLOOR · s_max)²). Rows that are all alike become zero.
    """
    widest = deviation_R.max(initial=0.0)
    if widest == 0:
        return Whitening(mean_D, np.zeros_like(axes_DR))
    return Whitening(mean_D, axes_DR / np.sqrt(deviation_R**2 + (FLOOR * widest) ** 2))


def fit_whitening(vectors: Prepared, ranks: Ranks) -> Whitening:
    """Whitening by the covariance of all vectors, in one pass over them after one for their range; float32.

    Raises:
        ValueError: a number is not finite or beyond 1e15.
    """
    shift_D = vectors.take([0], ranks)[0].double()  # of vectors all alike exactly zero is left
    rows, width = vectors.source.rows, vectors.source.width
    largest = 2 * largest_of(vectors, ranks)
    scale, scale_2 = scale_of(largest * rows), scale_of(largest * largest * rows)
    sum_D = torch.zeros(width, dtype=torch.int64, device=vectors.device)
    sum_DD = torch.zeros(width, width, dtype=torch.int64, device=vectors.device)
    for _, x_ID in vectors.own(ranks):
        y_ID = x_ID.double() - shift_D
        sum_D += (y_ID.sum(dim=0) * scale).round().to(torch.int64)
        sum_DD += ((y_ID.T @ y_ID) * scale_2).round().to(torch.int64)
    mean_D = ranks.all_reduce(sum_D).double() / scale / rows
    cov_DD = ranks.all_reduce(sum_DD).double() / scale_2 / rows - mean_D[:, None] * mean_D
    # One rank decides: another machine's eigenvectors may differ in the last bits.
    variance_R, axes_DR = np.linalg.eigh(((cov_DD + cov_DD.T) / 2).cpu().numpy())
    deviation_R = np.sqrt(variance_R.clip(0))[::-1]
    found = whitening_of((shift_D + mean_D).cpu().numpy(), axes_DR[:, ::-1], deviation_R)
    both = torch.from_numpy(np.concatenate([found.mean_D[None], found.axes_DR.T]).astype(np.float32))
    shared = ranks.broadcast(both.to(vectors.device).contiguous()).cpu().numpy()
    return Whitening(shared[0], np.ascontiguousarray(shared[1:].T))
