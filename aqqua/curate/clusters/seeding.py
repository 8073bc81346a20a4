"""Where k-means starts: k-means++ on a subsample.

Each next centroid is a vector drawn with probability in proportion to its squared distance to those there
are, so that far groups are found though they are small. With few centroids, each is the best of some draws
(greedy k-means++, as scikit-learn does); with many, several are drawn at once, so that no more than about a
thousand passes over the subsample are made. k-means|| would draw from all vectors instead of 16 for each
centroid (fewer beyond 16,384), at five passes over them and a second clustering of what it drew; repair and
resampling find here what it would.

Every rank makes the same draws from the same subsample; rank 0's result counts.
Source: Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding".
Letter key: I vectors, K centroids, D width. Test: tests/curate/clusters/test_seeding.py.
"""

import hashlib
import math

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.vectors import Prepared
from aqqua.plan.permute import permute
from aqqua.plan.philox import Purpose, bits
from aqqua.train.ranks import Ranks

# Vectors of the subsample: for each centroid, at least, at most, and for each centroid beyond that.
PER_CLUSTER, LEAST, MOST, BEYOND = 16, 16_384, 1 << 18, 2
STEPS = 1000


def stream_of(*what: str | int) -> int:
    """A stream of random numbers named by what it is for; 64 bits."""
    text = "\0".join(map(str, what)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def seed_centroids(
    vectors: Prepared, clusters: int, seed: int, stream: int, ranks: Ranks
) -> Float32[Tensor, "K D"]:
    """Different rows of the vectors to start from.

    Raises:
        ValueError: there are fewer vectors than clusters.
    """
    n = vectors.source.rows
    if not 1 <= clusters <= n:
        raise ValueError(
            f"k-means: clusters must be 1 to the number of vectors, {n}, got {clusters}; ask for fewer"
        )
    wanted = max(LEAST, min(PER_CLUSTER * clusters, MOST), BEYOND * clusters)
    first = np.arange(min(n, wanted), dtype=np.uint64)
    x_ID = vectors.take(permute(first, n, seed, stream).tolist(), ranks)
    return ranks.broadcast(x_ID[plus_plus(x_ID, clusters, seed, stream)].contiguous())


def plus_plus(x_ID: Float32[Tensor, "I D"], clusters: int, seed: int, stream: int) -> Tensor:
    """Numbers of the rows to start from, none twice."""
    x_ID = x_ID - x_ID.mean(dim=0)
    norm_I = x_ID.square().sum(dim=1)
    at_once = -(-clusters // STEPS)
    trials = 2 + int(math.log(clusters)) if at_once == 1 else at_once
    chosen = [int(_draws(seed, stream, 0, 1)[0] * len(x_ID))]
    squared_I = torch.full_like(norm_I, torch.inf)
    fresh = chosen
    for step in range(1, 64 + 2 * clusters):
        squared_I = torch.minimum(squared_I, Nearest(x_ID[fresh])(x_ID)[1])
        squared_I[fresh] = 0  # whatever rounding says
        if len(chosen) >= clusters:
            break
        drawn = _draw_rows(squared_I, _draws(seed, stream, step, trials))
        if not drawn:  # every vector is one that was chosen
            break
        fresh = drawn if at_once > 1 else [_best(x_ID, norm_I, squared_I, drawn)]
        fresh = fresh[: clusters - len(chosen)]
        chosen += fresh
    if len(chosen) < clusters:
        taken = set(chosen)
        others = (i for i in range(len(x_ID)) if i not in taken)
        chosen += [next(others) for _ in range(clusters - len(chosen))]
    return torch.tensor(chosen, device=x_ID.device)


def _draw_rows(squared_I: Tensor, draw: Float64[np.ndarray, " T"]) -> list[int]:
    """Rows by the share of each in the sum, each once."""
    upto_I = squared_I.double().cumsum(0)
    total = float(upto_I[-1])
    if total <= 0:
        return []
    found = torch.searchsorted(upto_I, torch.from_numpy(draw * total).to(upto_I.device), right=True)
    rows = list(dict.fromkeys(found.clamp_max(len(squared_I) - 1).tolist()))
    return [row for row in rows if squared_I[row] > 0]


def _best(x_ID: Tensor, norm_I: Tensor, squared_I: Tensor, rows: list[int]) -> int:
    """The row of these that brings all vectors nearest to a centroid."""
    far_TI = norm_I[rows][:, None] + norm_I - 2 * x_ID[rows] @ x_ID.T
    left_T = torch.minimum(far_TI.clamp_min(0), squared_I).sum(dim=1, dtype=torch.float64)
    return rows[int(left_T.argmin())]


def _draws(seed: int, stream: int, step: int, count: int) -> Float64[np.ndarray, " T"]:
    """From [0, 1), in steps of 2^-53."""
    words = bits(seed, np.array([stream], np.uint64), np.array([step], np.uint64), Purpose.CLUSTER, 2 * count)
    high, low = words[0, ::2].astype(np.uint64), words[0, 1::2].astype(np.uint64)
    return ((high << np.uint64(21)) | (low >> np.uint64(11))) * 2.0**-53
