"""Sinkhorn over all packs and ranks of a step, from sweeps that any implementation may serve.

q[b, k] = exp(logit / T + log_u[k] + log_v[b]), scaled in turn over columns and rows; the last row scaling
is a softmax, so log_u is the whole result. Letter key: R rows of a pack, K prototypes, N partials.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from aqqua.kernels.prototype_loss.reference import FIXED_POINT

AllReduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]
Partials = tuple[Tensor, Tensor]
Pack = TypeVar("Pack")


def iterate(
    packs: Sequence[Pack],
    start_K: Tensor,
    iterations: int,
    sweeps: tuple[
        Callable[[Pack, Tensor], Tensor],
        Callable[[Pack, Tensor, Tensor | None], Partials],
        Callable[[Tensor, Tensor, Tensor], Tensor],
    ],
    all_reduce: AllReduce,
) -> Tensor:
    """log_u_K after some scalings of columns and rows.

    Args:
        packs: what the sweeps take: the teacher rows of each pack.
        start_K: log_u to start from.
        sweeps: rows (pack, log_u) -> lse_R; columns (pack, log_u, lse_R or None) -> partials; join.
        all_reduce: over ranks, as `aqqua.kernels.prototype_loss.balance` says.
    """
    row_sweep, column_sweep, join = sweeps
    log_u_K = start_K
    for iteration in range(iterations):
        # Before the first iteration all rows have the same scaling: that start is DINOv2's.
        normalisers = [None if iteration == 0 else row_sweep(pack, log_u_K) for pack in packs]
        partials = [column_sweep(p, log_u_K, lse) for p, lse in zip(packs, normalisers, strict=True)]
        # The sums are of the rows as scaled so far, so what corrects them is multiplied on.
        log_u_K = log_u_K - _log_sum_over_ranks(partials, join, all_reduce)
    return log_u_K


def _log_sum_over_ranks(
    partials: list[Partials], join: Callable[..., Tensor], all_reduce: AllReduce
) -> Tensor:
    """log of the sum over all packs of all ranks; 0 where no rank has a row."""
    partial_NK, sum_NK = (torch.cat(x) for x in zip(*partials, strict=True))
    N, K = partial_NK.shape
    largest_K = partial_NK.amax(dim=0) if N > 0 else partial_NK.new_full((K,), -torch.inf)
    largest_K = all_reduce(largest_K, "max")
    empty_K = largest_K == -torch.inf
    largest_K = largest_K.masked_fill(empty_K, 0.0)
    total_K = all_reduce(join(partial_NK, sum_NK, largest_K), "sum")
    # A NaN among the logits is still in largest_K here, so it reaches the loss, where it is looked for.
    log_sum_K = largest_K + (total_K.double() / FIXED_POINT).log().to(largest_K.dtype)
    return log_sum_K.masked_fill(empty_K, 0.0)
