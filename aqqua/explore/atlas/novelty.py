"""How unlike all others an image is: the mean cosine distance to its neighbours, as a quantile of all.

Source: Ramaswamy et al. 2000, "Efficient algorithms for mining outliers from large data sets" (distance to
the k-th neighbour; the mean of all k is steadier). Letter key: N points, K neighbours. Test:
tests/explore/atlas/test_atlas_novelty.py.
"""

import numpy as np
from jaxtyping import Float32

from aqqua.explore.atlas.neighbours import NONE, Found


def novelty(found: Found) -> Float32[np.ndarray, " N"]:
    """0 the most ordinary point, 1 the most unlike its neighbours; equal ones share the mean of their places.

    A point without a neighbour counts as unlike as can be.
    """
    there_NK = found.row_QK != NONE
    distance_NK = np.where(there_NK, 1.0 - found.similarity_QK.astype(np.float64), 0.0)
    count_N = there_NK.sum(axis=1)
    mean_N = np.where(count_N > 0, distance_NK.sum(axis=1) / count_N.clip(1), np.inf)
    _, place_N, count_U = np.unique(mean_N, return_inverse=True, return_counts=True)
    last_U = np.cumsum(count_U)
    middle_U = last_U - (count_U + 1) / 2  # mean of the places of equals, from 0
    quantile_N: np.ndarray = middle_U[place_N] / max(len(mean_N) - 1, 1)
    return quantile_N.astype(np.float32)
