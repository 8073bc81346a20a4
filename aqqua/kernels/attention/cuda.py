"""Attention inside each view of a packed batch: the GPU kernels of other packages.

Each is imported when first called, so that nothing here needs a GPU or flash-attn to be imported.
All three take q, k, v as [T, H, E] in float16 or bfloat16 with int32 offsets, and attend in full
inside a view. Their signatures move between releases, so arguments go by name, and only those that
the installed version takes.

Specification: reference.py. Sources: flash-attn 2 (flash_attn/flash_attn_interface.py), flash-attn 4
(flash_attn/cute/interface.py), torch >= 2.10 (torch/nn/attention/varlen.py).
"""

import inspect
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

Qkv = tuple[Tensor, Tensor, Tensor]


@cache
def _parameters(function: Callable) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _call(function: Callable, qkv: Qkv, needed: dict, optional: dict) -> Tensor:
    """Call with the needed arguments and those optional ones that the installed version names.

    Raises:
        RuntimeError: it does not take a needed one. Without offsets, views would see each other.
    """
    known = _parameters(function)
    if not known >= needed.keys():
        missing = ", ".join(sorted(needed.keys() - known))
        raise RuntimeError(
            f"{function.__module__}.{function.__name__} must take {missing}, got {', '.join(sorted(known))}; "
            "install another version or choose another attention backend"
        )
    out = function(*qkv, **needed, **{name: value for name, value in optional.items() if name in known})
    return out[0] if isinstance(out, tuple) else out  # some versions also return the log-sum-exp


def _flash(function: Callable, qkv: Qkv, offsets_V1: Tensor, max_length: int) -> Tensor:
    needed: dict = {"cu_seqlens_q": offsets_V1, "cu_seqlens_k": offsets_V1}
    if torch.are_deterministic_algorithms_enabled():
        needed["deterministic"] = True  # the backward pass of flash-attn adds in any order unless told
    return _call(function, qkv, needed, {"max_seqlen_q": max_length, "max_seqlen_k": max_length})


def flash4(q: Tensor, k: Tensor, v: Tensor, offsets_V1: Tensor, max_length: int) -> Tensor:
    """flash-attn 4 (CuTe DSL); Hopper and Blackwell, beta."""
    from flash_attn.cute import flash_attn_varlen_func

    return _flash(flash_attn_varlen_func, (q, k, v), offsets_V1, max_length)


def flash2(q: Tensor, k: Tensor, v: Tensor, offsets_V1: Tensor, max_length: int) -> Tensor:
    """flash-attn 2; Ampere and later."""
    from flash_attn import flash_attn_varlen_func

    return _flash(flash_attn_varlen_func, (q, k, v), offsets_V1, max_length)


def torch_varlen(q: Tensor, k: Tensor, v: Tensor, offsets_V1: Tensor, max_length: int) -> Tensor:
    """torch's own varlen_attn (flash-attn 2 inside ATen); needs no further package."""
    from torch.nn.attention.varlen import varlen_attn

    arguments = {"cu_seq_q": offsets_V1, "cu_seq_k": offsets_V1, "max_q": max_length, "max_k": max_length}
    return _call(varlen_attn, (q, k, v), arguments, {})
