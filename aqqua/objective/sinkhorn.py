"""Sinkhorn-Knopp: share teacher images out over the prototypes so that all prototypes are used.

DINOv2 alternately scales the rows and columns of exp(logits / T), three times. Every scaling is one
number per prototype (u) or per row (v), so q[b, k] = exp(logit[b, k] / T + log_u[k] + log_v[b]). Here u
and v stay logs (log-sum-exp): the plain form is inf from |logit| 3.549 on at T = 0.04, and prototype
weights are trainable, so logits are not bounded.

Two facts make the result small:

- The last half-iteration makes every row sum to 1, so q[b] = softmax(logit[b] / T + log_u). Only log_u
  has to be kept, and no [B, K] matrix of probabilities exists until a pack asks for its own rows.
- B and K of the published formula cancel in that softmax. Rows may therefore be ragged over packs and
  ranks (masked patches are), and no row count is needed.

The start matters, as three iterations do not converge: v0 is one constant for all rows and ranks (which
constant cancels too), as in DINOv2's division by the global sum.

Letter key: B teacher rows of the step on this rank, R rows of one pack, K prototypes.
Test: tests/objective/test_sinkhorn.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.prototype_loss import Rows, stored

AllReduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]

# Elements of logits worked on at a time: 64 MiB in float32, enough to fill a GPU.
CHUNK_ELEMENTS = 2**24
# Sums over rows are added as whole multiples of 2**-36: whole numbers add exactly, so any split of the
# packs over ranks gives the same bits. The sum is at least 1 (its largest term is 1), so this is finer
# than float32 by four digits; int64 holds 2**27 (134 million) rows per step.
FIXED_POINT = 2.0**36


@dataclass(frozen=True)
class Assignment:
    """The solved problem: what turns teacher logits into target probabilities."""

    log_u_K: Float[Tensor, " K"]
    temperature: float

    def probabilities(self, rows: Rows) -> Float[Tensor, "R K"]:
        """Target probabilities (float32, rows sum to 1) of any rows that took part in the balancing."""
        return _scaled(stored(rows), self.temperature, self.log_u_K).softmax(dim=1)


def alone(x: Tensor, op: Literal["sum", "max"]) -> Tensor:  # noqa: ARG001  the signature of AllReduce
    """The reduction of a single rank."""
    return x


@torch.no_grad()
def sinkhorn(
    logits_BK: Float[Tensor, "B K"] | Sequence[Tensor],
    temperature: float,
    iterations: int = 3,
    all_reduce: AllReduce = alone,
) -> Assignment:
    """Balanced assignment of all teacher rows of a step to prototypes.

    Args:
        logits_BK: teacher logits of this rank (any float type, may have no row), or one such tensor per
            pack. Per pack is better: nothing is concatenated, and the result then has the same bits for
            every distribution of the packs over ranks.
        temperature: teacher temperature T, for example 0.04 to 0.07.
        iterations: row-and-column scalings; DINOv2 uses 3.
        all_reduce: the element-wise sum or maximum of a tensor over all ranks. Called twice per
            iteration on every rank with [K] tensors (float32 for max, int64 for sum) made here; it may
            work in place.

    Raises:
        ValueError: temperature or iterations is not positive, or there is no tensor of logits.

    Source: dinov2/loss/dino_clstoken_loss.py `sinkhorn_knopp_teacher`, in log form.
    """
    packs = [logits_BK] if isinstance(logits_BK, Tensor) else list(logits_BK)
    if not packs:
        raise ValueError("sinkhorn: needs at least one tensor of logits, got none; pass one with 0 rows")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"sinkhorn: temperature must be positive and finite, got {temperature}")
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations must be at least 1, got {iterations}")
    log_u_K: Tensor | None = None  # before the first iteration all rows have the same scaling
    for _ in range(iterations):
        partials = [_log_column_sums(rows, temperature, log_u_K) for rows in packs]
        # The sums are of the rows as scaled so far, so what corrects them is multiplied on.
        correction_K = _log_sum_over_ranks(partials, all_reduce)
        log_u_K = -correction_K if log_u_K is None else log_u_K - correction_K
    assert log_u_K is not None, "iterations is at least 1"
    return Assignment(log_u_K, temperature)


def _scaled(logits_RK: Tensor, temperature: float, log_u_K: Tensor | None) -> Tensor:
    scaled_RK = logits_RK.float() / temperature
    return scaled_RK if log_u_K is None else scaled_RK + log_u_K


def _log_column_sums(logits_RK: Tensor, temperature: float, log_u_K: Tensor | None) -> tuple[Tensor, Tensor]:
    """One sweep over a pack: scale its rows to sum 1 given u, then sum each prototype over the rows.

    Returns the sum as (largest logarithm, sum relative to it), so that packs can be joined.
    """
    K = logits_RK.shape[1]
    largest_K = torch.full((K,), -torch.inf, device=logits_RK.device)
    sum_K = torch.zeros(K, device=logits_RK.device)
    if len(logits_RK) == 0:
        return largest_K, sum_K
    for chunk_RK in logits_RK.split(max(1, CHUNK_ELEMENTS // K)):
        x_RK = _scaled(chunk_RK, temperature, log_u_K)
        if log_u_K is not None:
            x_RK -= x_RK.logsumexp(dim=1, keepdim=True)
        old_K, largest_K = largest_K, torch.maximum(largest_K, x_RK.amax(dim=0))
        sum_K = sum_K * (old_K - largest_K).exp() + x_RK.sub_(largest_K).exp_().sum(dim=0)
    return largest_K, sum_K


def _log_sum_over_ranks(partials: list[tuple[Tensor, Tensor]], all_reduce: AllReduce) -> Tensor:
    """log of the sum over all packs of all ranks; 0 where no rank has a row."""
    largest_K = all_reduce(torch.stack([largest for largest, _ in partials]).amax(dim=0), "max")
    empty_K = largest_K == -torch.inf
    largest_K = largest_K.masked_fill(empty_K, 0.0)
    total_K = torch.zeros_like(largest_K, dtype=torch.int64)
    for part_K, sum_K in partials:
        relative_K = sum_K * (part_K - largest_K).exp()
        total_K += (relative_K.double() * FIXED_POINT).round().long()
    total_K = all_reduce(total_K, "sum")
    # A NaN among the logits is still in largest_K here, so it reaches the loss, where it is looked for.
    log_sum_K = largest_K + (total_K.double() / FIXED_POINT).log().float()
    return log_sum_K.masked_fill(empty_K, 0.0)
