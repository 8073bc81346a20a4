"""The cases that residual_norm is timed on: width, precision, with and without stochastic depth.

Peers: eager, as the model's blocks write it; torch.compile of that; Liger's LayerNorm after an eager
residual. At drop-path 0.4 the least traffic counts the kept rows only.
Test: tests/kernels/test_bench_cases.py.
"""

from collections.abc import Iterator

import torch
from case import Case, Function, make_case, missing
from torch import Tensor
from torch.nn.functional import layer_norm

from aqqua.kernels.residual_norm import Kept, kept_of_branches, residual_norm

VIEW_TOKENS = 52  # mean global crop, reference size law
EPS = 1e-6


def cases(
    device: torch.device | str = "cuda",
    tokens: int = 65_536,
    widths: tuple[int, ...] = (1024, 384, 768, 1536),
    streams: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16),
    rates: tuple[float, ...] = (0.0, 0.4),
) -> Iterator[Case]:
    """Branches are bfloat16; the stream is float32 (mixed precision) or bfloat16."""
    for width in widths:
        for stream in streams:
            for rate in rates:
                yield _case(torch.device(device), tokens, width, stream, rate)


def _case(device: torch.device, tokens: int, width: int, stream: torch.dtype, rate: float) -> Case:
    kept, following = _tables(tokens, rate, device)
    rows = tokens if kept is None else len(kept.rows_U)
    next_rows = tokens if following is None else len(following.rows_U)
    gain = tokens / rows
    x = torch.randn(tokens, width, device=device).to(stream)
    branch = torch.randn(rows, width, device=device).bfloat16()
    vectors = [torch.randn(width, device=device) for _ in range(3)]

    def ours(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return residual_norm(*inputs, gain=gain, kept=kept, next_kept=following, backend="triton")

    functions: dict[str, Function] = {"eager": _eager(kept, following, gain), "triton": ours}
    not_run = missing(["liger_kernel"])
    if not not_run:
        functions["liger"] = _liger(kept, following, gain)
    x_bytes, z_bytes, b_bytes = tokens * width * x.itemsize, next_rows * width * 2, rows * width * 2
    forward = 2 * x_bytes + b_bytes + z_bytes
    backward = 2 * x_bytes + next_rows * width * x.itemsize + 2 * b_bytes + z_bytes
    name = f"residual_norm D {width}, {str(stream).removeprefix('torch.')} stream, drop-path {rate}"
    return make_case(name, functions, [x, branch, *vectors], forward, forward + backward, not_run=not_run)


def _tables(tokens: int, rate: float, device: torch.device) -> tuple[Kept | None, Kept | None]:
    if rate == 0:
        return None, None
    lengths = torch.full((max(tokens // VIEW_TOKENS, 1),), VIEW_TOKENS)
    lengths[-1] += tokens - int(lengths.sum())
    generator = torch.Generator().manual_seed(0)
    keep = max(int(len(lengths) * (1 - rate)), 1)
    views = [torch.randperm(len(lengths), generator=generator)[:keep].sort().values for _ in range(2)]
    kept, following = kept_of_branches(lengths, views, device)
    return kept, following


def _add(x: Tensor, branch: Tensor, gamma: Tensor, kept: Kept | None, gain: float) -> Tensor:
    """The residual as aqqua.model.vit writes it."""
    branch = (branch * gamma).to(x.dtype)
    return x + branch if kept is None else x.index_add(0, kept.rows_U, branch, alpha=gain)


def _eager(kept: Kept | None, following: Kept | None, gain: float) -> Function:
    def function(x: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor):
        y = _add(x, branch, gamma, kept, gain)
        rows = y if following is None else y.index_select(0, following.rows_U)
        return y, layer_norm(rows.float(), rows.shape[1:], weight, bias, EPS).to(branch.dtype)

    return function


def _liger(kept: Kept | None, following: Kept | None, gain: float) -> Function:
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction

    def function(x: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor):
        y = _add(x, branch, gamma, kept, gain)
        rows = y if following is None else y.index_select(0, following.rows_U)
        return y, LigerLayerNormFunction.apply(rows, weight, bias, EPS).to(branch.dtype)

    return function
