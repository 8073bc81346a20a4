"""Residual + LayerScale + stochastic depth + LayerNorm: the kernels as torch operators with gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aqqua.kernels.registration import launch, operator
from aqqua.kernels.residual_norm import kernel

Stats = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Tile:
    """How a width is launched."""

    block: int  # columns of a program: the power of two at or above the width
    warps: int
    forward_rows: int  # of a program
    backward_rows: int  # of a program at a time
    backward_programs: int


# Per bytes of an element of the stream. A thread holds 16 bytes of each row. Forward: sixteen elements of
# every tensor. Backward, which holds four tensors at once: as many rows as leave two programs or more to
# a multiprocessor (at most 128 registers), and as many programs as an H200's 132 then hold at once.
# Reasoned, and checked by offline compilation; not yet measured on a GPU.
TILES = {
    4: (
        Tile(block=128, warps=1, forward_rows=4, backward_rows=2, backward_programs=24 * 132),
        Tile(block=256, warps=2, forward_rows=4, backward_rows=2, backward_programs=12 * 132),
        Tile(block=512, warps=4, forward_rows=4, backward_rows=2, backward_programs=6 * 132),
        Tile(block=1024, warps=8, forward_rows=4, backward_rows=2, backward_programs=2 * 132),
        Tile(block=2048, warps=8, forward_rows=2, backward_rows=1, backward_programs=2 * 132),
    ),
    2: (
        Tile(block=128, warps=1, forward_rows=4, backward_rows=2, backward_programs=16 * 132),
        Tile(block=256, warps=1, forward_rows=2, backward_rows=2, backward_programs=16 * 132),
        Tile(block=512, warps=2, forward_rows=2, backward_rows=2, backward_programs=8 * 132),
        Tile(block=1024, warps=4, forward_rows=2, backward_rows=2, backward_programs=4 * 132),
        Tile(block=2048, warps=8, forward_rows=2, backward_rows=1, backward_programs=2 * 132),
    ),
}


def tile_of(width: int, itemsize: int) -> Tile:
    """The launch parameters of a width up to 2048 and a stream of this many bytes per element."""
    return next(tile for tile in TILES[itemsize] if tile.block >= width)


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """A pointer for an argument that the kernel will not look at: not every tracer takes None."""
    return stand_in if tensor is None else tensor


def _forward(
    x: Tensor, branch: Tensor | None, gamma: Tensor | None, position: Tensor | None,
    weight: Tensor, bias: Tensor, following: Tensor | None, rows: int,
    gain: float, dtype: torch.dtype, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    T, D = x.shape
    tile = tile_of(D, x.itemsize)
    y = torch.empty_like(x) if branch is not None else x
    z = x.new_empty(rows, D, dtype=dtype)
    mean, rstd = (x.new_empty(T, dtype=torch.float32) for _ in range(2))
    launch(
        kernel.forward_kernel, (-(-T // tile.forward_rows),),
        x, _or(branch, x), _or(gamma, x), _or(position, x), weight, bias, _or(following, x),
        y, z, mean, rstd, T, gain, eps,
        D=D, BLOCK_D=tile.block, ROWS=tile.forward_rows, VECTOR=16 // x.itemsize,
        BRANCH=branch is not None, TABLE=position is not None, NEXT_TABLE=following is not None,
        num_warps=tile.warps,
    )  # fmt: skip
    return y, z, mean, rstd


def _backward(
    dy: Tensor | None, dz: Tensor, y: Tensor, mean: Tensor, rstd: Tensor, branch: Tensor | None,
    gamma: Tensor | None, position: Tensor | None, weight: Tensor, following: Tensor | None, gain: float,
) -> tuple[Tensor, Tensor | None, Tensor]:  # fmt: skip
    """dx, dbranch and the [3, D] float32 gradients of weight, bias and gamma."""
    T, D = y.shape
    tile = tile_of(D, y.itemsize)
    programs = torch.sym_min(tile.backward_programs, -(-T // tile.backward_rows))
    dx = torch.empty_like(y)
    dbranch = None if branch is None else torch.empty_like(branch)
    partial = y.new_empty(programs, 3, D, dtype=torch.float32)
    launch(
        kernel.backward_kernel, (programs,),
        _or(dy, y), dz, y, mean, rstd, _or(branch, y), _or(gamma, y), _or(position, y), weight,
        _or(following, y), dx, _or(dbranch, dx), partial, T, gain,
        D=D, BLOCK_D=tile.block, ROWS=tile.backward_rows, VECTOR=16 // y.itemsize,
        BRANCH=branch is not None, STREAM=dy is not None,
        TABLE=position is not None, NEXT_TABLE=following is not None,
        num_warps=tile.warps,
    )  # fmt: skip
    return dx, dbranch, partial.sum(0)


@operator("norm_rows")
def norm_rows(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    following: Tensor | None,
    rows: int,
    dtype: torch.dtype,
    eps: float,
) -> Stats:
    """LayerNorm(x)[kept rows], mean and 1/σ of every row."""
    return _forward(x, None, None, None, weight, bias, following, rows, 1.0, dtype, eps)[1:]


@operator("norm_rows_backward")
def norm_rows_backward(
    dz: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, following: Tensor | None
) -> tuple[Tensor, Tensor]:
    dx, _, sums = _backward(None, dz, x, mean, rstd, None, None, None, weight, following, 1.0)
    return dx, sums


@operator("residual_norm")
def residual_norm(
    x: Tensor, branch: Tensor, gamma: Tensor, position: Tensor | None,
    weight: Tensor, bias: Tensor, following: Tensor | None, rows: int,
    gain: float, dtype: torch.dtype, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y = x + gain · gamma · branch, LayerNorm(y)[kept rows], mean and 1/σ of every row of y."""
    return _forward(x, branch, gamma, position, weight, bias, following, rows, gain, dtype, eps)


@operator("residual_norm_backward")
def residual_norm_backward(
    dy: Tensor | None, dz: Tensor, y: Tensor, mean: Tensor, rstd: Tensor, branch: Tensor, gamma: Tensor,
    position: Tensor | None, weight: Tensor, following: Tensor | None, gain: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dx, dbranch, sums = _backward(
        dy, dz, y, mean, rstd, branch, gamma, position, weight, following, gain
    )  # fmt: skip
    assert dbranch is not None, "a branch was given"
    return dx, dbranch, sums


def _save_norm_rows(ctx, inputs: tuple, output: Stats) -> None:
    x, weight, bias, following, *_ = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, mean, rstd, weight, bias, following)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _norm_rows_gradient(ctx, dz: Tensor | None, *_stats: None) -> tuple[Tensor | None, ...]:
    x, mean, rstd, weight, bias, following = ctx.saved_tensors
    if dz is None:
        return (None,) * 7
    dx, sums = norm_rows_backward(dz.contiguous(), x, mean, rstd, weight, following)
    return dx, sums[0].to(weight.dtype), sums[1].to(bias.dtype), None, None, None, None


def _save_residual_norm(ctx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, branch, gamma, position, weight, bias, following, _, gain, dtype, _ = inputs
    y, z, mean, rstd = output
    ctx.save_for_backward(y, mean, rstd, branch, gamma, position, weight, bias, following)
    ctx.gain, ctx.rows, ctx.dtype = gain, z.shape[0], dtype
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _residual_norm_gradient(
    ctx, dy: Tensor | None, dz: Tensor | None, *_stats: None
) -> tuple[Tensor | None, ...]:
    y, mean, rstd, branch, gamma, position, weight, bias, following = ctx.saved_tensors
    if dz is None:  # only the stream is used: nothing comes back through the norm
        dz = y.new_zeros(ctx.rows, y.shape[1], dtype=ctx.dtype)
    dx, dbranch, sums = residual_norm_backward(
        None if dy is None else dy.contiguous(), dz.contiguous(), y, mean, rstd, branch, gamma,
        position, weight, following, ctx.gain,
    )  # fmt: skip
    dweight, dbias, dgamma = sums[0].to(weight.dtype), sums[1].to(bias.dtype), sums[2].to(gamma.dtype)
    return dx, dbranch, dgamma, None, dweight, dbias, None, None, None, None, None


norm_rows.register_autograd(_norm_rows_gradient, setup_context=_save_norm_rows)
residual_norm.register_autograd(_residual_norm_gradient, setup_context=_save_residual_norm)
