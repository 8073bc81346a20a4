"""Clip, AdamW, teacher and copies: the specification, tensor by tensor in plain PyTorch.

Sums are kept in float32, or in float64 where the parameters are.
Source: torch/nn/utils/clip_grad.py; torch/optim/adam.py `_single_tensor_adam`; aqqua/train/optim.py.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.optim.state import StepState


def optimizer_step_reference(
    state: StepState,
    gradients: Sequence[Tensor | None],
    rates_G6: Float[Tensor, "G 6"],
    max_norm: float,
    found_inf: Float[Tensor, "1"] | None,
    reduce: Callable[[Tensor], object] | None,
) -> Float[Tensor, " M"]:
    """As aqqua.kernels.optim.optimizer_step; waits for the device."""
    exact = state.parameters[0].dtype
    wide = [None if g is None else g.to(exact) for g in gradients]
    squares_M = torch.zeros(state.modules, dtype=exact, device=state.device)
    for module, gradient in zip(state.module_S, wide, strict=True):
        if gradient is not None:
            squares_M[module] += gradient.square().sum()
    if reduce is not None:
        reduce(squares_M)
    norms_M = squares_M.sqrt()
    if found_inf is not None:
        found_inf[~squares_M.isfinite().all().expand(1)] = 1.0
        if found_inf.item() != 0:
            return norms_M
    clip_M = torch.ones_like(norms_M)
    if math.isfinite(max_norm):
        clip_M = (max_norm / (norms_M + 1e-6)).clamp(max=1.0)
    for number, gradient in enumerate(wide):
        rates = rates_G6[state.group_S[number]].tolist()
        if gradient is not None and gradient.numel():
            _adamw(state, number, gradient * clip_M[state.module_S[number]], *rates[:5])
        parameter = state.parameters[number]
        if state.teachers is not None:
            state.teachers[number].lerp_(parameter, 1.0 - rates[5])
        if state.copies is not None:
            state.copies[number].copy_(parameter)
    return norms_M


def _adamw(
    state: StepState,
    number: int,
    gradient: Tensor,
    lr: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    parameter, average, square = (kind[number] for kind in state.moved[:3])
    state.counts_S[number] += 1
    count = state.counts_S[number].item()
    parameter.mul_(1.0 - lr * weight_decay)
    average.lerp_(gradient, 1.0 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    divisor = (square.sqrt() / math.sqrt(1.0 - beta2**count)).add_(eps)
    parameter.addcdiv_(average, divisor, value=-lr / (1.0 - beta1**count))
