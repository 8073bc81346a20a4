"""Attention inside each view of a packed batch: one dense batch per distinct length.

The pack is sorted by length, views of equal length become a dense batch [views, H, length, E],
and the result is put back in the pack's order. Nothing is padded and nothing is approximated, so
it equals the specification up to rounding; it is the fast path where no varlen kernel runs (CPU,
or float32 on a GPU): a pack of native-resolution views holds hundreds of views but only some tens
of distinct lengths.

Specification: reference.py. Test: tests/kernels/test_attention.py.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def _attend(q_BHnE: Tensor, k_BHnE: Tensor, v_BHnE: Tensor) -> Tensor:
    """softmax(q kᵀ / √E) v of a dense batch.

    In half precision on the CPU it is written out: for views of tens of tokens PyTorch's fused kernel
    takes three to fifteen times as long there (torch 2.13, AVX-512), though not in float32.
    """
    if q_BHnE.is_cuda or q_BHnE.dtype not in (torch.bfloat16, torch.float16):
        return scaled_dot_product_attention(q_BHnE, k_BHnE, v_BHnE)
    scores = (q_BHnE * q_BHnE.shape[-1] ** -0.5) @ k_BHnE.transpose(-1, -2)
    return scores.softmax(dim=-1, dtype=torch.float32).to(v_BHnE.dtype) @ v_BHnE


@dataclass(frozen=True)
class _Order:
    """How to sort a pack by length and back; rows_T is None when it is sorted already."""

    rows_T: Tensor | None
    inverse_T: Tensor | None
    groups: tuple[tuple[int, int], ...]  # (views, length) of each group, in sorted order


class _Permute(torch.autograd.Function):
    """Reorder rows. The gradient of a permutation is a gather, where index_select's would scatter."""

    @staticmethod
    def forward(ctx, x, rows, inverse):
        ctx.save_for_backward(rows, inverse)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, dy):
        rows, inverse = ctx.saved_tensors
        return _Permute.apply(dy, inverse, rows), None, None


# A step asks for the same pack in every layer, and for a few packs in turn.
@lru_cache(maxsize=16)
def _order(lengths: tuple[int, ...], device: torch.device) -> _Order:
    lengths_V = torch.tensor(lengths)
    sorted_V, view_V = lengths_V.sort(stable=True)
    distinct, counts = torch.unique_consecutive(sorted_V, return_counts=True)
    groups = tuple(zip(counts.tolist(), distinct.tolist(), strict=True))
    if torch.equal(sorted_V, lengths_V):
        return _Order(None, None, groups)
    starts_V = lengths_V.cumsum(0) - lengths_V
    sorted_starts_V = sorted_V.cumsum(0) - sorted_V
    rows_T = torch.arange(int(lengths_V.sum())) + (starts_V[view_V] - sorted_starts_V).repeat_interleave(
        sorted_V
    )
    return _Order(rows_T.to(device), rows_T.argsort().to(device), groups)


def varlen_attention_grouped(
    q_THE: Float[Tensor, "T H E"],
    k_THE: Float[Tensor, "T H E"],
    v_THE: Float[Tensor, "T H E"],
    lengths_V: Int[Tensor, " V"],
) -> Float[Tensor, "T H E"]:
    """The specification's values and gradients, one dense batch per distinct view length."""
    order = _order(tuple(lengths_V.tolist()), q_THE.device)
    qkv = (q_THE, k_THE, v_THE)
    if order.rows_T is not None:
        qkv = tuple(_Permute.apply(x, order.rows_T, order.inverse_T) for x in qkv)
    sizes = [views * length for views, length in order.groups]
    out = []
    for (views, length), *parts in zip(order.groups, *(x.split(sizes) for x in qkv), strict=True):
        batch = (x.unflatten(0, (views, length)).transpose(1, 2) for x in parts)  # [views, H, length, E]
        out.append(_attend(*batch).transpose(1, 2).flatten(0, 1))
    o_THE = out[0] if len(out) == 1 else torch.cat(out)
    return o_THE if order.rows_T is None else _Permute.apply(o_THE, order.inverse_T, order.rows_T)
