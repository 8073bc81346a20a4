"""Pooling, gathering and KoLeo: the kernels as torch operators with gradients."""

import torch
from torch import Tensor

from aqqua.kernels.registration import interpreted, launch, operator
from aqqua.kernels.segment import kernel, koleo_kernel
from aqqua.kernels.segment.reference import EPS

# Reasoned, not yet measured on a GPU: 16 rows, as the median view has few more, of 256 bytes in bf16.
TILE = {"BLOCK_T": 16, "BLOCK_D": 128, "num_warps": 4}
KOLEO_TILE = {"BLOCK_I": 16, "BLOCK_J": 32, "BLOCK_D": 64, "num_warps": 4}  # many programs: images are few
KOLEO_LIST = 128  # neighbours that the backward pass looks through at a time
ATTENTIVE_VALUES = 4096  # of a program at a time: BLOCK_T rows of BLOCK_E


def power_of_two(width: int) -> int:
    """At or above the width."""
    return 1 << (width - 1).bit_length()


def _views(offsets: Tensor, width: int) -> tuple[int]:
    """One program per view and block of columns."""
    return ((offsets.shape[0] - 1) * -(-width // TILE["BLOCK_D"]),)


@operator("mean_pool")
def mean_pool(x: Tensor, offsets: Tensor, prefix: int) -> Tensor:
    D = x.shape[1]
    y = x.new_empty(offsets.shape[0] - 1, D, dtype=torch.float32)
    launch(kernel.mean_forward_kernel, _views(offsets, D), x, offsets, y, prefix, D=D, **TILE)
    return y


@operator("mean_pool_backward")
def mean_pool_backward(
    dy: Tensor, offsets: Tensor, prefix: int, tokens: int, dtype: torch.dtype
) -> Tensor:  # fmt: skip
    D = dy.shape[1]
    dx = dy.new_empty(tokens, D, dtype=dtype)
    launch(kernel.mean_backward_kernel, _views(offsets, D), dy, offsets, dx, prefix, D=D, **TILE)
    return dx


@operator("split_prefix")
def split_prefix(x: Tensor, offsets: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    (T, D), V = x.shape, offsets.shape[0] - 1
    first, other = x.new_empty(V, prefix, D), x.new_empty(T - V * prefix, D)
    _split(x, offsets, first, other, prefix, BACKWARD=False, PREFIX=True, PATCHES=True)
    return first, other


@operator("take_prefix")
def take_prefix(x: Tensor, offsets: Tensor, count: int) -> Tensor:
    first = x.new_empty(offsets.shape[0] - 1, count, x.shape[1])
    _split(x, offsets, first, first, count, BACKWARD=False, PREFIX=True, PATCHES=False)
    return first


@operator("split_prefix_backward")
def split_prefix_backward(
    dfirst: Tensor | None, dother: Tensor | None, offsets: Tensor, prefix: int, tokens: int
) -> Tensor:
    """One of the two gradients at least must be given."""
    given = dfirst if dfirst is not None else dother
    assert given is not None, "a gradient must be given"
    dx = given.new_empty(tokens, given.shape[-1])
    first, other = given if dfirst is None else dfirst, given if dother is None else dother
    flags = {"PREFIX": dfirst is not None, "PATCHES": dother is not None}
    _split(dx, offsets, first, other, prefix, BACKWARD=True, **flags)
    return dx


def _split(x: Tensor, offsets: Tensor, first: Tensor, other: Tensor, prefix: int, **flags: bool) -> None:
    D = x.shape[1]
    launch(
        kernel.split_kernel, _views(offsets, D), x, offsets, first, other, prefix, D=D, **flags, **TILE
    )  # fmt: skip


@operator("attentive_pool")
def attentive_pool(
    values: Tensor, scores: Tensor, offsets: Tensor, prefix: int
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The pooled values and the log-sum-exp of each view's scores."""
    V, (H, E) = offsets.shape[0] - 1, values.shape[1:]
    y, lse = (values.new_empty(V, H, *size, dtype=torch.float32) for size in ((E,), ()))
    launch(
        kernel.attentive_forward_kernel, (V * H,), values, scores, offsets, y, lse, prefix,
        H=H, E=E, **attentive_tile(E),
    )  # fmt: skip
    return y, lse


@operator("attentive_pool_backward")
def attentive_pool_backward(
    dy: Tensor, y: Tensor, values: Tensor, scores: Tensor, lse: Tensor, offsets: Tensor, prefix: int
) -> tuple[Tensor, Tensor]:
    H, E = values.shape[1:]
    dvalues, dscores = torch.empty_like(values), torch.empty_like(scores)
    launch(
        kernel.attentive_backward_kernel, ((offsets.shape[0] - 1) * H,),
        dy, y, values, scores, lse, offsets, dvalues, dscores, prefix, H=H, E=E, **attentive_tile(E),
    )  # fmt: skip
    return dvalues, dscores


def attentive_tile(width: int) -> dict[str, int]:
    """Rows and columns of a program for heads of this width, which lie in it whole."""
    block = power_of_two(width)
    return {"BLOCK_T": max(min(ATTENTIVE_VALUES // block, 64), 1), "BLOCK_E": block, "num_warps": 4}


@operator("koleo")
def koleo_forward(features: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss of every row; and its neighbour, the distance to it, and its length."""
    G, images, D = features.shape
    loss, distance, norm = (features.new_empty(G, images, dtype=torch.float32) for _ in range(3))
    nearest = features.new_empty(G, images, dtype=torch.int32)
    launch(
        koleo_kernel.forward_kernel, (-(-images // KOLEO_TILE["BLOCK_I"]), G),
        features, image, loss, nearest, distance, norm, images, EPS, D=D, UPCAST=interpreted(), **KOLEO_TILE,
    )  # fmt: skip
    return loss, nearest, distance, norm


@operator("koleo_backward")
def koleo_backward(
    dloss: Tensor, features: Tensor, nearest: Tensor, distance: Tensor, norm: Tensor
) -> Tensor:  # fmt: skip
    G, images, D = features.shape
    dfeatures = torch.empty_like(features)
    launch(
        koleo_kernel.backward_kernel, (G * images,),
        dloss, features, nearest, distance, norm, dfeatures, images, EPS,
        D=D, **koleo_row(D),
    )  # fmt: skip
    return dfeatures


def koleo_row(width: int) -> dict[str, int]:
    """Launch parameters of the backward pass of a row of this width: 16 values a thread."""
    block = power_of_two(width)
    return {"BLOCK_I": KOLEO_LIST, "BLOCK_D": block, "num_warps": max(block // 512, 1)}


def _save_mean_pool(ctx, inputs: tuple, output: Tensor) -> None:  # noqa: ARG001
    x, offsets, ctx.prefix = inputs
    ctx.save_for_backward(offsets)
    ctx.tokens, ctx.dtype = x.shape[0], x.dtype


def _mean_pool_gradient(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
    (offsets,) = ctx.saved_tensors
    return mean_pool_backward(dy.contiguous(), offsets, ctx.prefix, ctx.tokens, ctx.dtype), None, None


def _save_split(ctx, inputs: tuple, output: Tensor | tuple) -> None:  # noqa: ARG001
    x, offsets, ctx.prefix = inputs
    ctx.save_for_backward(offsets)
    ctx.tokens = x.shape[0]
    ctx.set_materialize_grads(False)


def _split_gradient(
    ctx, dfirst: Tensor | None, dother: Tensor | None = None
) -> tuple[Tensor | None, ...]:  # fmt: skip
    (offsets,) = ctx.saved_tensors
    if dfirst is None and dother is None:
        return None, None, None
    parts = [None if part is None else part.contiguous() for part in (dfirst, dother)]
    return split_prefix_backward(*parts, offsets, ctx.prefix, ctx.tokens), None, None


def _save_attentive_pool(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    values, scores, offsets, ctx.prefix = inputs
    y, lse = output
    ctx.save_for_backward(y, values, scores, lse, offsets)
    ctx.mark_non_differentiable(lse)


def _attentive_pool_gradient(ctx, dy: Tensor, _lse: Tensor) -> tuple[Tensor | None, ...]:
    return *attentive_pool_backward(dy.contiguous(), *ctx.saved_tensors, ctx.prefix), None, None


def _save_koleo(ctx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, nearest, distance, norm = output
    ctx.save_for_backward(inputs[0], nearest, distance, norm)
    ctx.mark_non_differentiable(nearest, distance, norm)


def _koleo_gradient(ctx, dloss: Tensor, *_others: Tensor) -> tuple[Tensor | None, ...]:
    return koleo_backward(dloss.contiguous(), *ctx.saved_tensors), None


mean_pool.register_autograd(_mean_pool_gradient, setup_context=_save_mean_pool)
split_prefix.register_autograd(_split_gradient, setup_context=_save_split)
take_prefix.register_autograd(_split_gradient, setup_context=_save_split)
attentive_pool.register_autograd(_attentive_pool_gradient, setup_context=_save_attentive_pool)
koleo_forward.register_autograd(_koleo_gradient, setup_context=_save_koleo)
