"""Groups of points by k-means over their features, numbered by size: something to colour a map by.

Letter key: N points, R width. Test: tests/explore/atlas/test_atlas_clusters.py.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int32

from aqqua.curate.clusters.kmeans import KMeansConfig, lloyd
from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.seeding import seed_centroids, stream_of
from aqqua.curate.clusters.vectors import ArrayVectors, Prepared
from aqqua.plan.permute import permute
from aqqua.train.ranks import Ranks

MOST = 200  # clusters by default: a person looks at each
ITERATIONS = 25
FITTED = 256  # points of a cluster that k-means is fitted on, on average: more move its centroids little


def clusters_of(
    unit_NR: Float[np.ndarray, "N R"], clusters: int | None, seed: int
) -> Int32[np.ndarray, " N"]:
    """The cluster of each point; 0 is the largest.

    Args:
        clusters: how many; None: the root of half the points, at most MOST.
    """
    wanted = min(MOST, round(math.sqrt(len(unit_NR) / 2))) if clusters is None else clusters
    wanted = max(1, min(wanted, len(unit_NR)))
    points = Prepared(ArrayVectors(unit_NR))
    few = min(len(unit_NR), FITTED * wanted)
    drawn = permute(np.arange(few, dtype=np.uint64), len(unit_NR), seed, stream_of("atlas cluster points"))
    sample = Prepared(ArrayVectors(unit_NR[np.sort(drawn.astype(np.int64))]))
    start = seed_centroids(sample, wanted, seed, stream_of("atlas clusters"), Ranks())
    assign = Nearest(
        lloyd(sample, start, KMeansConfig.model_validate({"iterations": ITERATIONS}), Ranks()).centroids_KD
    )
    found = [assign(x_IR)[0] for _, x_IR in points.own(Ranks())]
    cluster_N = torch.cat(found).numpy()
    order = np.argsort(-np.bincount(cluster_N, minlength=wanted), kind="stable")
    number = np.empty(wanted, np.int32)
    number[order] = np.arange(wanted, dtype=np.int32)
    return number[cluster_N]
