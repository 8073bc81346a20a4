"""The nearest centroid of each vector: where nearly all of the time of k-means goes.

|x - c|² is least where x·c - |c|²/2 is largest, so it is a matrix product and an argmax over its rows, tile
by tile, each small enough to be still in the cache when its argmax is taken. All is seen from the mean of the
centroids: vectors that share a large part would lose their differences in float32 otherwise. Products and
distances are float32; where two centroids are equally near within that, either may be named, the same one in
every run on the same machine.

On a CPU the product is oneDNN's, with the -|c|²/2 added in it: twice as fast on an AMD CPU as MKL's or
OpenBLAS's (bench/curate.py). torch has it for its compiler, under the name used here; where a build of torch
lacks it (`PRODUCT` says), torch.addmm takes its place.

Letter key: I vectors, K centroids, D width. Test: tests/curate/clusters/test_nearest.py. Timing:
bench/curate.py.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

# Of a CPU: the scores of a tile, 512 × 2048 float32, stay in the last cache. Of a GPU: 1 GB of scores.
CPU_ROWS, CPU_CENTROIDS = 512, 2048
GPU_SCORES, GPU_CENTROIDS = 1 << 28, 16_384

_Product = Callable[[Tensor, Tensor, Tensor], Tensor]


def _cpu_product() -> tuple[str, _Product]:
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        linear = torch.ops.mkldnn._linear_pointwise
        return "oneDNN", lambda x_ID, c_KD, bias_K: linear(x_ID, c_KD, bias_K, "none", [], "")
    return "addmm", _addmm


def _addmm(x_ID: Tensor, c_KD: Tensor, bias_K: Tensor) -> Tensor:
    return torch.addmm(bias_K, x_ID, c_KD.T)


PRODUCT, _product = _cpu_product()


class Nearest:
    """Finds the nearest of K centroids; made once for each set of them."""

    def __init__(self, centroids_KD: Float32[Tensor, "K D"]) -> None:
        c_KD = centroids_KD.float()
        self._shift_D = c_KD.mean(dim=0, dtype=torch.float64).float()
        self._c_KD = (c_KD - self._shift_D).contiguous()
        self._bias_K = (self._c_KD.double().square().sum(dim=1) / -2).float()

    def __call__(self, x_ID: Float32[Tensor, "I D"]) -> tuple[Int64[Tensor, " I"], Float32[Tensor, " I"]]:
        """Number of the nearest centroid (the first of equals), and the squared distance to it."""
        label_I = torch.empty(len(x_ID), dtype=torch.int64, device=x_ID.device)
        squared_I = torch.empty(len(x_ID), device=x_ID.device)
        rows = CPU_ROWS
        if x_ID.is_cuda:
            rows = max(CPU_ROWS, GPU_SCORES // min(len(self._c_KD), GPU_CENTROIDS))
        for first in range(0, len(x_ID), rows):
            tile = slice(first, first + rows)
            centred_ID = x_ID[tile] - self._shift_D
            label_I[tile] = self._labels(centred_ID)
            # From the difference itself: |x|² - 2x·c + |c|² would leave only rounding of a small distance.
            centred_ID -= self._c_KD.index_select(0, label_I[tile])
            squared_I[tile] = centred_ID.square_().sum(dim=1)
        return label_I, squared_I

    def _labels(self, x_ID: Tensor) -> Tensor:
        if x_ID.is_cuda:
            return _argmax_over(x_ID, self._c_KD, self._bias_K, GPU_CENTROIDS, _gpu_best)
        return _argmax_over(x_ID, self._c_KD, self._bias_K, CPU_CENTROIDS, _cpu_best)


def _argmax_over(
    x_ID: Tensor,
    c_KD: Tensor,
    bias_K: Tensor,
    step: int,
    best_of: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Tensor:
    """Over all centroids, `step` at a time."""
    score_I, label_I = best_of(x_ID, c_KD[:step], bias_K[:step])
    for first in range(step, len(c_KD), step):
        score, label = best_of(x_ID, c_KD[first : first + step], bias_K[first : first + step])
        better = score > score_I  # of equals the first stays
        label_I = torch.where(better, label + first, label_I)
        score_I = torch.where(better, score, score_I)
    return label_I


def _cpu_best(x_ID: Tensor, c_KD: Tensor, bias_K: Tensor) -> tuple[Tensor, Tensor]:
    score_IK = _product(x_ID, c_KD, bias_K).numpy()
    label_I = score_IK.argmax(axis=1)  # NumPy's is vectorised: ten times as fast as torch's
    return torch.from_numpy(score_IK[np.arange(len(label_I)), label_I]), torch.from_numpy(label_I)


def _gpu_best(x_ID: Tensor, c_KD: Tensor, bias_K: Tensor) -> tuple[Tensor, Tensor]:
    score_I, label_I = _addmm(x_ID, c_KD, bias_K).max(dim=1)
    return score_I, label_I
