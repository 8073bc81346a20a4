"""GELU and SwiGLU: the kernels as torch operators with gradients, alone and with the product after them."""

import torch
from torch import Tensor

from aqqua.kernels.activation import kernel
from aqqua.kernels.registration import launch, operator

# 256 columns divide every hidden width of the named models. Reasoned, not yet measured on a GPU.
TILE = {"ROWS": 8, "BLOCK_F": 256, "num_warps": 4}


def _grid(tokens: int, width: int) -> tuple[int]:
    return (-(-width // TILE["BLOCK_F"]) * -(-tokens // TILE["ROWS"]),)


@operator("activation")
def activation(a: Tensor, gated: bool) -> Tensor:
    """gelu(a), or silu(gate) · up of the halves of a's rows."""
    T, width = a.shape[0], a.shape[1] // 2 if gated else a.shape[1]
    h = a.new_empty(T, width)
    launch(kernel.forward_kernel, _grid(T, width), a, h, T, F=width, GATED=gated, **TILE)
    return h


@operator("activation_backward")
def activation_backward(a: Tensor, dh: Tensor, gated: bool) -> Tensor:
    da = torch.empty_like(a)
    T, width = dh.shape
    arguments = a, dh, da, da  # the last stands in for h
    launch(
        kernel.backward_kernel, _grid(T, width), *arguments, T, F=width, GATED=gated, AGAIN=False, **TILE
    )  # fmt: skip
    return da


@operator("activation_again")
def activation_again(a: Tensor, dh: Tensor, gated: bool) -> tuple[Tensor, Tensor]:
    """The gradient of a, and the activation itself once more."""
    da, h = torch.empty_like(a), torch.empty_like(dh)
    T, width = dh.shape
    launch(
        kernel.backward_kernel, _grid(T, width), a, dh, da, h, T, F=width, GATED=gated, AGAIN=True, **TILE
    )  # fmt: skip
    return da, h


@operator("activated_linear")
def activated_linear(a: Tensor, weight: Tensor, bias: Tensor, gated: bool) -> Tensor:
    """linear(activation(a), weight, bias)."""
    return torch.addmm(bias, activation(a, gated), weight.t())


def _save_activation(ctx, inputs: tuple, output: Tensor) -> None:  # noqa: ARG001
    a, ctx.gated = inputs
    ctx.save_for_backward(a)


def _activation_gradient(ctx, dh: Tensor) -> tuple[Tensor, None]:
    (a,) = ctx.saved_tensors
    return activation_backward(a, dh.contiguous(), ctx.gated), None


def _save_activated_linear(ctx, inputs: tuple, output: Tensor) -> None:  # noqa: ARG001
    a, weight, _, ctx.gated = inputs
    ctx.save_for_backward(a, weight)


def _activated_linear_gradient(ctx, dout: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    a, weight = ctx.saved_tensors
    da, h = activation_again(a, dout @ weight, ctx.gated)
    return da, dout.t() @ h, dout.sum(0), None


activation.register_autograd(_activation_gradient, setup_context=_save_activation)
activated_linear.register_autograd(_activated_linear_gradient, setup_context=_save_activated_linear)
