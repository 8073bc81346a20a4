"""The cases that activation is timed on: GELU and SwiGLU alone, and with the product that follows.

With the product the gain is memory, so peak memory is what to look at beside the time.
Peers: eager and torch.compile of it; Liger's GEGLU and SwiGLU are no peers, as the one uses tanh and the
other takes two tensors. Test: tests/kernels/test_bench_cases.py.
"""

from collections.abc import Iterator
from functools import partial

import torch
from case import Case, Function, make_case
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from aqqua.kernels.activation import Kind, activated_linear, gelu, swiglu

OURS = {"gelu": gelu, "swiglu": swiglu}


def _eager_swiglu(a: Tensor) -> Tensor:
    gate, up = a.chunk(2, dim=-1)
    return F.silu(gate) * up


EAGER: dict[str, Function] = {"gelu": F.gelu, "swiglu": _eager_swiglu}


def cases(
    device: torch.device | str = "cuda",
    tokens: int = 65_536,
    widths: tuple[tuple[Kind, int, int], ...] = (
        ("gelu", 1536, 384), ("gelu", 3072, 768), ("gelu", 4096, 1024), ("swiglu", 4096, 1536),
    ),
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[Case]:  # fmt: skip
    """For each kind, hidden width and width of the model."""
    for kind, hidden, width in widths:
        wide = hidden * (2 if kind == "swiglu" else 1)
        a = torch.randn(tokens, wide, device=device).to(dtype)
        h_bytes, a_bytes = tokens * hidden * a.itemsize, tokens * wide * a.itemsize
        yield make_case(
            f"{kind} F {hidden}",
            {"eager": EAGER[kind], "triton": partial(OURS[kind], backend="triton")},
            [a], a_bytes + h_bytes, 3 * a_bytes + 2 * h_bytes,
        )  # fmt: skip
        weight = torch.randn(width, hidden, device=device).to(dtype)
        bias = torch.randn(width, device=device).to(dtype)
        out_bytes = tokens * width * a.itemsize
        yield make_case(
            f"{kind} and linear F {hidden}, D {width}",
            {
                "eager": lambda a, weight, bias, kind=kind: F.linear(EAGER[kind](a), weight, bias),
                "triton": partial(activated_linear, kind=kind, backend="triton"),
            },
            [a.clone(), weight, bias],
            a_bytes + 2 * h_bytes + out_bytes,
            3 * a_bytes + 6 * h_bytes + 3 * out_bytes,
            2 * tokens * hidden * width,
        )
