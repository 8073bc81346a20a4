"""Attention inside each view of a packed batch: no view sees another."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.kernels.attention import cuda
from aqqua.kernels.attention.choice import BACKENDS, available, choose
from aqqua.kernels.attention.grouped import varlen_attention_grouped
from aqqua.kernels.attention.reference import varlen_attention_reference

__all__ = ["BACKENDS", "available", "choose", "varlen_attention"]

_HOST = {"grouped": varlen_attention_grouped, "reference": varlen_attention_reference}
_GPU = {"flash4": cuda.flash4, "flash2": cuda.flash2, "torch_varlen": cuda.torch_varlen}


def _check(q: Tensor, k: Tensor, v: Tensor, offsets_V1: Tensor, lengths_V: Tensor) -> None:
    if not (q.shape == k.shape == v.shape and q.dtype == k.dtype == v.dtype and q.ndim == 3):
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in (q, k, v))
        raise ValueError(f"varlen_attention: q, k, v must be alike and [T, H, E], got {shapes}; reshape them")
    if offsets_V1.dtype != torch.int32:
        raise ValueError(
            f"varlen_attention: offsets must be int32, got {offsets_V1.dtype}; convert when packing"
        )
    if lengths_V.device.type != "cpu":
        raise ValueError(
            f"varlen_attention: lengths must lie on the CPU, got {lengths_V.device}; keep the host copy"
        )
    if len(lengths_V) + 1 != len(offsets_V1) or int(lengths_V.sum()) != len(q):
        raise ValueError(
            f"varlen_attention: lengths must add up to the {len(q)} tokens of {len(offsets_V1) - 1} views, "
            f"got {int(lengths_V.sum())} tokens of {len(lengths_V)}; take both from one Sequences"
        )


def varlen_attention(
    q_THE: Float[Tensor, "T H E"],
    k_THE: Float[Tensor, "T H E"],
    v_THE: Float[Tensor, "T H E"],
    offsets_V1: Int[Tensor, " V1"],
    lengths: Int[Tensor, " V"],
    max_length: int,
    backend: str = "auto",
) -> Float[Tensor, "T H E"]:
    """softmax(q kᵀ / √E) v inside each view.

    Args:
        q_THE, k_THE, v_THE: queries, keys, values of all tokens; H heads of width E.
        offsets_V1: int32, on their device: token row where each view starts, then T.
        lengths: tokens of each view, on the CPU (the host side of offsets_V1, so that nothing waits
            for the GPU).
        max_length: longest view.
        backend: 'auto', or a name of BACKENDS to force it.

    Returns:
        One row per token, in q's dtype.

    Raises:
        ValueError: shapes, dtypes or lengths do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check(q_THE, k_THE, v_THE, offsets_V1, lengths)
    name = choose(q_THE.device, q_THE.dtype, backend)
    if name in _HOST:
        return _HOST[name](q_THE, k_THE, v_THE, lengths)
    return _GPU[name](q_THE, k_THE, v_THE, offsets_V1, max_length)
