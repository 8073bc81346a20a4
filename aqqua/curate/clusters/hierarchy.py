"""A tree of clusters: images, clusters of them, clusters of these, and so on.

Level 1 is k-means over a sample of images, level l over the centroids of level l - 1. k-means puts its
centroids where the vectors are many; so at a level that resamples, it is repeated over the few vectors
nearest to each centroid, as many of a crowded cluster as of a rare one, and its centroids come to lie where
there is anything at all. Written from the paper's description.

Source: Vo et al. 2024, "Automatic data curation for self-supervised learning: a clustering-based approach",
arXiv 2405.15613: 743 M images in 10 M, 500 k, 50 k and 10 k clusters (75 images, 20, 10 and 5 clusters in
each), 10 resampling steps that keep about half a mean cluster, none at level 1.
Letter key: I vectors, K clusters, D width. Test: tests/curate/clusters/test_hierarchy.py.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from jaxtyping import Float32, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from aqqua.curate.clusters.kmeans import Clustering, KMeansConfig, assign, largest_of, lloyd
from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.seeding import seed_centroids, stream_of
from aqqua.curate.clusters.vectors import ArrayVectors, Prepared
from aqqua.train.ranks import Ranks

MOST_LEVELS = 8
VO_IMAGES, VO_MEMBERS, LEAST_MEMBERS = 743e6, 75.0, 2.0
# In which images of an instrument differ. 8 was chosen, of 4.7, 6 and 8, on mixtures made for that: planted
# ones whose classes follow Zipf's law, and ISIIS with five other classes as its large ones than
# bench/curate_balance.py has.
DIMENSIONS = 8


class HierarchyConfig(BaseModel):
    """Levels of the tree, and how each is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    depth: int = Field(4, ge=1, le=MOST_LEVELS, description="levels of the tree; Vo et al. 2024")
    members: tuple[int, ...] | None = Field(
        None,
        description="mean images of a cluster of level 1, then clusters in one of the next; None: "
        "members_of the images, then of the clusters below",
    )
    most_clusters: int = Field(
        100_000,
        ge=1,
        description="of level 1 in an instrument: assignment takes as much longer (see cost.py)",
    )
    clusters: tuple[int, ...] | None = Field(
        None, description="clusters of each level in every instrument, whatever its images"
    )
    resample: tuple[int, ...] | None = Field(
        None,
        description="vectors nearest to each centroid that a resampling step keeps, by level, 0 where there "
        "is none; None: none at level 1, half a mean cluster above; Vo et al. 2024",
    )
    resample_steps: int = Field(10, ge=0, description="of each level that resamples; Vo et al. 2024")
    kmeans: KMeansConfig = Field(
        default_factory=lambda: KMeansConfig.model_validate({}), description="of each run of k-means"
    )

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        for name, given in (("clusters", self.clusters), ("members", self.members)):
            if given is not None and not 1 <= len(given) <= MOST_LEVELS:
                raise ValueError(f"{name} must name 1 to {MOST_LEVELS} levels, got {len(given)}; correct it")
        if min(self.clusters or self.members or (1,)) < 1 or min(self.resample or (0,)) < 0:
            raise ValueError(
                f"members and clusters must be at least 1, resample at least 0, got {self.members}, "
                f"{self.clusters} and {self.resample}; correct them"
            )
        if self.resample is not None and len(self.resample) != self.levels:
            raise ValueError(
                f"resample must have a number for each of the {self.levels} levels, got {self.resample}; "
                "add or remove some"
            )
        return self

    @property
    def levels(self) -> int:
        """Of the tree."""
        return len(self.clusters or self.members or range(self.depth))

    def sizes(self, images: int) -> tuple[int, ...]:
        """Clusters of each level for an instrument of so many images; never more than there are members."""
        found, members = [], images
        for level in range(self.levels):
            if self.clusters:
                members = min(self.clusters[level], members)
            else:
                of_each = self.members[level] if self.members else members_of(members)
                wanted = max(1, int(members / of_each))
                members = wanted if level else min(wanted, self.most_clusters)
            found.append(members)
        return tuple(found)

    def kept(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Vectors of each cluster that a resampling step keeps, by level."""
        if self.resample is not None:
            return self.resample[: len(sizes)]
        return (0, *(-(-below // (2 * size)) for below, size in pairwise(sizes)))


def members_of(members: int) -> float:
    """Mean size of the clusters of so many images, or of so many clusters of the level below.

    Clusters tell how densely vectors lie only if they are both narrow and full. The error of a histogram of N
    points in d dimensions is least when its cells hold in proportion to N^(2 / (d + 2)) of them (Scott 1979,
    "On optimal and data-based histograms"; for d dimensions Scott 2015, "Multivariate Density Estimation",
    section 3.4). 75 of 743 million, as Vo et al. 2024 have it, are the factor. At least two: a level that
    does not halve the one below is none.
    """
    return max(LEAST_MEMBERS, VO_MEMBERS * (members / VO_IMAGES) ** (2 / (DIMENSIONS + 2)))


@dataclass(frozen=True)
class Level:
    """Clusters of one level, none without members."""

    centroids_KD: Float32[Tensor, "K D"]
    parent_K: Int64[Tensor, " K"]  # cluster of the next level; 0 at the last one
    inertia: float  # of its members' squared distances
    converged: bool


def build_levels(
    vectors: Prepared, sizes: tuple[int, ...], config: HierarchyConfig, seed: int, name: str, ranks: Ranks
) -> list[Level]:
    """The tree over a sample of one instrument.

    Args:
        vectors: the sample; each rank reads its own chunks of it.
        sizes: clusters of each level, fewer where there are fewer different members.
        name: of the instrument; names the random draws.

    Raises:
        ValueError: a vector is not finite.
    """
    members, joined, largest = vectors, ranks, largest_of(vectors, ranks)
    centroids: list[Tensor] = []
    founds: list[Clustering] = []
    parents: list[Tensor] = []
    for level, (size, keep) in enumerate(zip(sizes, config.kept(sizes), strict=True), 1):
        stream = stream_of(name, level)
        steps = config.resample_steps if keep else 0
        size = min(size, members.source.rows)
        found = _cluster(members, size, keep, steps, config.kmeans, (seed, stream), joined, largest)
        kept = found.centroids_KD[found.count_K > 0]
        if level > 1:
            parents.append(Nearest(kept)(centroids[-1])[0])
        centroids.append(kept)
        founds.append(found)
        # Centroids are few: every rank has all of them and clusters them by itself, the same everywhere.
        members, joined = Prepared(ArrayVectors(kept.cpu().numpy()), False, vectors.device), Ranks()
    parents.append(torch.zeros(len(centroids[-1]), dtype=torch.int64, device=vectors.device))
    tensors = {f"{i}": c for i, c in enumerate(centroids)} | {f"p{i}": p for i, p in enumerate(parents)}
    shared = ranks.share_tensors(tensors, vectors.device)
    return [Level(shared[f"{i}"], shared[f"p{i}"], f.inertia, f.converged) for i, f in enumerate(founds)]


def _cluster(
    vectors: Prepared,
    clusters: int,
    keep: int,
    steps: int,
    config: KMeansConfig,
    draws: tuple[int, int],
    ranks: Ranks,
    largest: float,
) -> Clustering:
    """One level: k-means, then resampling steps. `draws`: seed and stream."""
    seed, stream = draws
    start = seed_centroids(vectors, clusters, seed, stream, ranks)
    found = lloyd(vectors, start, config, ranks, largest)
    for step in range(1, steps + 1):
        rows = nearest_rows(vectors, found.centroids_KD, keep, ranks)
        few = Prepared(ArrayVectors(vectors.take(rows.tolist(), ranks).cpu().numpy()), False, vectors.device)
        start = seed_centroids(few, min(clusters, len(rows)), seed, stream_of(stream, step), Ranks())
        centroids = lloyd(few, start, config, Ranks(), largest).centroids_KD
        found = assign(vectors, ranks.broadcast(centroids), ranks, largest)
    return found


def nearest_rows(
    vectors: Prepared, centroids_KD: Float32[Tensor, "K D"], keep: int, ranks: Ranks
) -> Int64[Tensor, " I"]:
    """Rows of the `keep` vectors of each cluster nearest to its centroid, of all ranks, ascending."""
    nearest, clusters = Nearest(centroids_KD), len(centroids_KD)
    squared_KR = torch.full((clusters, keep), torch.inf, device=vectors.device)
    row_KR = torch.full((clusters, keep), -1, dtype=torch.int64, device=vectors.device)
    for first, x_ID in vectors.own(ranks):
        label_I, squared_I = nearest(x_ID)
        order_I = squared_I.argsort(stable=True)
        order_I = order_I[label_I[order_I].argsort(stable=True)]
        count_K = torch.bincount(label_I, minlength=clusters)
        first_K = count_K.cumsum(0) - count_K
        place_I = torch.arange(len(x_ID), device=x_ID.device) - first_K[label_I[order_I]]
        order_I, place_I = order_I[place_I < keep], place_I[place_I < keep]
        new_KR, new_row_KR = torch.full_like(squared_KR, torch.inf), torch.full_like(row_KR, -1)
        new_KR[label_I[order_I], place_I] = squared_I[order_I]
        new_row_KR[label_I[order_I], place_I] = order_I + first
        squared_KR, row_KR = _least(
            torch.cat([squared_KR, new_KR], 1), torch.cat([row_KR, new_row_KR], 1), keep
        )
    all_squared = ranks.stack(squared_KR.reshape(-1)).view(-1, clusters, keep).transpose(0, 1)
    all_rows = ranks.stack(row_KR.reshape(-1)).view(-1, clusters, keep).transpose(0, 1)
    _, row_KR = _least(all_squared.reshape(clusters, -1), all_rows.reshape(clusters, -1), keep)
    return row_KR[row_KR >= 0].sort().values


def _least(squared_KS: Tensor, row_KS: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The nearest of each cluster, of equals the first row."""
    row_KS, order = row_KS.sort(dim=1)
    squared_KS, order = squared_KS.gather(1, order).sort(dim=1, stable=True)
    return squared_KS[:, :keep], row_KS.gather(1, order)[:, :keep]
