"""k-means over vectors that do not fit into memory: full Lloyd iterations, or mini-batches.

Each rank streams its own chunks; what goes between ranks is counts and sums. As these are whole numbers
(aqqua.curate.clusters.exact_sums), two ranks find the very centroids that one finds. Memory: about 48 bytes
for each of K·D numbers, and a chunk; nothing grows with the number of vectors.

A cluster that loses all its vectors gets the farthest vector of the cluster with the most inertia. The mean
of that one stays, so the inertia still falls from one iteration to the next.

Source: Lloyd 1982, "Least squares quantization in PCM"; Sculley 2010, "Web-scale k-means clustering".
Letter key: I vectors, K clusters, D width. Test: tests/curate/clusters/test_kmeans.py. Timing:
bench/curate.py.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from aqqua.curate.clusters.exact_sums import LARGEST, ClusterSums
from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.vectors import Prepared, own_chunks, sampled_chunks
from aqqua.train.ranks import Ranks


class KMeansConfig(BaseModel):
    """How long k-means goes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(
        50, ge=1, description="most Lloyd iterations; 50 as Vo et al. 2024, arXiv 2405.15613"
    )
    tolerance: float = Field(
        1e-4,
        ge=0,
        lt=1,
        description="stop when inertia falls by less than this share; 0: when nothing moves",
    )


@dataclass(frozen=True)
class Clustering:
    """What k-means found."""

    centroids_KD: Float32[Tensor, "K D"]
    count_K: Int64[Tensor, " K"]  # vectors of each; 0 only where too few vectors differ
    history: tuple[float, ...]  # inertia of each assignment, the last one that of these centroids
    converged: bool

    @property
    def inertia(self) -> float:
        """Sum of squared distances to the nearest centroid."""
        return self.history[-1]


def largest_of(vectors: Prepared, ranks: Ranks) -> float:
    """Largest absolute number of all vectors; reads and checks all of them once.

    Raises:
        ValueError: a number is not finite or beyond 1e15.
    """
    most = torch.zeros(1)
    for _, x_ID in vectors.own(ranks):
        most = torch.maximum(most, x_ID.abs().max().cpu())
    largest = float(ranks.all_reduce(most.to(vectors.device), "max"))
    if largest > LARGEST:
        raise ValueError(f"k-means: numbers must be at most {LARGEST:g}, got {largest:g}; scale the vectors")
    return largest


def lloyd(
    vectors: Prepared,
    start_KD: Float32[Tensor, "K D"],
    config: KMeansConfig,
    ranks: Ranks,
    largest: float | None = None,
) -> Clustering:
    """Full k-means from given centroids.

    Args:
        largest: of the vectors, if the caller knows it; otherwise they are read once to find it.
    """
    largest = largest_of(vectors, ranks) if largest is None else largest
    c_KD = start_KD.to(vectors.device).double()
    largest = max(largest, float(c_KD.abs().max()))
    history: list[float] = []
    converged = False
    while True:
        sums = _assign_all(vectors, c_KD, largest, ranks)
        history.append(sums.inertia)
        if len(history) > 1 and history[-2] - history[-1] <= config.tolerance * history[-2]:
            converged = config.tolerance > 0
        if converged or len(history) > config.iterations:
            break
        new_KD = _repaired(sums.means(c_KD), c_KD, sums, vectors, ranks)
        if torch.equal(new_KD, c_KD):
            converged = True
            break
        c_KD = new_KD
    return Clustering(c_KD.float(), sums.count_K, tuple(history), converged)


def assign(
    vectors: Prepared, centroids_KD: Float32[Tensor, "K D"], ranks: Ranks, largest: float
) -> Clustering:
    """How many vectors are nearest to each of these centroids, and how near; by one pass."""
    c_KD = centroids_KD.to(vectors.device)
    sums = _assign_all(vectors, c_KD.double(), max(largest, float(c_KD.abs().max())), ranks)
    return Clustering(c_KD, sums.count_K, (sums.inertia,), True)


def mini_batch(
    vectors: Prepared,
    start_KD: Float32[Tensor, "K D"],
    seed: int,
    ranks: Ranks,
    passes: int = 1,
    batch_chunks: int = 4,
) -> Float32[Tensor, "K D"]:
    """Centroids after so many passes over the chunks in random order, moved after every few of them.

    Each moves by the share that the batch has in all vectors it was given so far (Sculley 2010). One pass
    does most of Lloyd's work where reading is dear; Lloyd from there on ends at a local optimum.
    """
    c_KD = start_KD.to(vectors.device).double()
    largest = max(largest_of(vectors, ranks), float(c_KD.abs().max()))
    seen_K = torch.zeros(len(c_KD), dtype=torch.int64, device=vectors.device)
    for turn in range(passes):
        order = list(sampled_chunks(vectors.source.chunks, seed, turn))
        for first in range(0, len(order), batch_chunks):
            batch = order[first : first + batch_chunks]
            sums = _new_sums(vectors, c_KD, largest)
            nearest = Nearest(c_KD.float())
            for at in own_chunks(len(batch), ranks):
                x_ID = vectors.chunk(batch[at])
                sums.add(x_ID, *nearest(x_ID))
            sums.reduce(ranks)
            seen_K += sums.count_K
            share_K = sums.count_K / seen_K.clamp_min(1).double()
            c_KD = c_KD + (sums.means(c_KD) - c_KD) * share_K[:, None]
    return c_KD.float()


def _new_sums(vectors: Prepared, c_KD: Float64[Tensor, "K D"], largest: float) -> ClusterSums:
    return ClusterSums(len(c_KD), vectors.source.width, vectors.source.rows, largest, vectors.device)


def _assign_all(vectors: Prepared, c_KD: Float64[Tensor, "K D"], largest: float, ranks: Ranks) -> ClusterSums:
    """Sums over all vectors of all ranks, each added to its nearest centroid."""
    sums, nearest = _new_sums(vectors, c_KD, largest), Nearest(c_KD.float())
    for _, x_ID in vectors.own(ranks):
        sums.add(x_ID, *nearest(x_ID))
    sums.reduce(ranks)
    return sums


def _repaired(
    new_KD: Float64[Tensor, "K D"],
    c_KD: Float64[Tensor, "K D"],
    sums: ClusterSums,
    vectors: Prepared,
    ranks: Ranks,
) -> Float64[Tensor, "K D"]:
    """The means, with empty clusters moved to the farthest vectors of those with the most inertia."""
    empty_E = (sums.count_K == 0).nonzero()[:, 0]
    if not len(empty_E):
        return new_KD
    inertia_K = torch.where(sums.count_K > 1, sums.inertia_K, 0.0)
    order_K = inertia_K.argsort(descending=True, stable=True)
    donor_E = order_K[: min(len(empty_E), int((inertia_K > 0).sum()))]
    if not len(donor_E):  # every vector lies on its centroid: nothing to split
        return new_KD
    row_E = _farthest(c_KD, donor_E, vectors, ranks)
    new_KD = new_KD.clone()
    new_KD[empty_E[: len(donor_E)]] = vectors.take(row_E.tolist(), ranks).double()
    return new_KD


def _farthest(
    c_KD: Float64[Tensor, "K D"], donor_E: Tensor, vectors: Prepared, ranks: Ranks
) -> Int64[Tensor, " E"]:
    """Row of the farthest vector of each of these clusters, the first of equals; by one more pass."""
    nearest, device = Nearest(c_KD.float()), vectors.device
    squared_K = torch.full((len(c_KD),), -1.0, device=device)
    row_K = torch.full((len(c_KD),), -1, dtype=torch.int64, device=device)
    for first, x_ID in vectors.own(ranks):
        label_I, squared_I = nearest(x_ID)
        # The last one written counts: the farthest, and of equals the first.
        order_I = torch.arange(len(x_ID) - 1, -1, -1, device=device)
        order_I = order_I[squared_I[order_I].argsort(stable=True)]
        last_K = torch.full_like(row_K, -1)
        last_K.scatter_reduce_(0, label_I[order_I], torch.arange(len(x_ID), device=device), "amax")
        found_K = order_I[last_K.clamp_min(0)]
        better_K = (last_K >= 0) & (squared_I[found_K] > squared_K)
        squared_K = torch.where(better_K, squared_I[found_K], squared_K)
        row_K = torch.where(better_K, found_K + first, row_K)
    squared_RE, row_RE = ranks.stack(squared_K[donor_E]), ranks.stack(row_K[donor_E])
    no_row = torch.iinfo(torch.int64).max
    return torch.where(squared_RE == squared_RE.amax(dim=0), row_RE, no_row).amin(dim=0)
