"""One step of training on all parameters at once: clip, AdamW, the following teacher, 16-bit copies.

Three launches whatever the number of tensors: squares of the gradients; norms, clip factors and bias
corrections, in one small program; then every value once. The tensors are found through tables of addresses
that are made once, so flat partitions of a sharded optimizer are served like any other tensor. Nothing waits
for the device: rates are a small tensor on it, and a step whose gradients are not finite undoes itself there.

    state = StepState.of(parameters, group_S, module_S, teachers=teachers, copies=copies)
    norms_M = optimizer_step(state, gradients, rates_table(rates, momentum, device), max_norm, found_inf)

The step is in place, and outside of autograd and of torch.compile, which could not see through addresses.

Letter key: S tensors, G groups of one rate, M modules that are clipped each by itself.
Specification: reference.py. Test: tests/kernels/test_optim_kernels.py. Timing: bench/kernels/optim.py.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.choice import BACKENDS, choose
from aqqua.kernels.optim.reference import optimizer_step_reference
from aqqua.kernels.optim.state import Rates, StepState, rates_table
from aqqua.kernels.registration import on_device_of

__all__ = ["BACKENDS", "Rates", "StepState", "optimizer_step", "rates_table"]


@torch.no_grad()
def optimizer_step(
    state: StepState,
    gradients: Sequence[Tensor | None],
    rates_G6: Float[Tensor, "G 6"],
    max_norm: float = math.inf,
    found_inf: Float[Tensor, "1"] | None = None,
    reduce: Callable[[Tensor], object] | None = None,
    backend: str = "auto",
) -> Float[Tensor, " M"]:
    """Move parameters, moments, teachers and copies by one step, in place.

    The arithmetic is that of torch.nn.utils.clip_grad_norm_ on each module, torch.optim.AdamW, and
    teacher.lerp_(parameter, 1 − momentum). The gradients themselves are left as they are.

    Args:
        state: the tensors, and their tables.
        gradients: of each parameter, contiguous, all float32 or all bfloat16 or float16. None: parameter,
            moments and count stay, as in torch.optim; teacher and copy still follow.
        rates_G6: see `rates_table`.
        max_norm: largest gradient norm of a module; inf only measures.
        found_inf: float32, 0 to begin with. It is set to 1 where a norm is not finite (or the caller found
            so), and then nothing is changed by the step. None: NaN spreads, as in torch.optim.
        reduce: called between the first two kernels with the float32 sums of squares [M], to add those of
            the other shards in place. It costs a launch.
        backend: 'auto', or a name of BACKENDS to force it.

    Returns:
        Gradient norm of each module before clipping, on the device.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check(state, gradients, rates_G6, max_norm, found_inf)
    dtype = state.parameters[0].dtype
    if choose("optim", state.device, dtype, backend) == "reference":
        return optimizer_step_reference(state, gradients, rates_G6, max_norm, found_inf, reduce)
    from aqqua.kernels.optim import op

    with on_device_of((rates_G6,)):
        return op.optimizer_step(state, gradients, rates_G6, max_norm, found_inf, reduce)


def _check(
    state: StepState,
    gradients: Sequence[Tensor | None],
    rates_G6: Tensor,
    max_norm: float,
    found_inf: Tensor | None,
) -> None:
    _check_gradients(state, gradients)
    rates = (state.groups, 6), torch.float64, state.device
    if (tuple(rates_G6.shape), rates_G6.dtype, rates_G6.device) != rates or not rates_G6.is_contiguous():
        raise ValueError(
            f"optimizer_step: rates must be [{state.groups}, 6] float64 on {state.device}, got "
            f"{list(rates_G6.shape)} {rates_G6.dtype} on {rates_G6.device}; make them by rates_table"
        )
    if not max_norm > 0:
        raise ValueError(f"optimizer_step: max_norm must be positive, got {max_norm}; inf clips nothing")
    if found_inf is not None and (
        found_inf.shape != (1,) or found_inf.dtype != torch.float32 or found_inf.device != state.device
    ):
        raise ValueError(
            f"optimizer_step: found_inf must be [1] float32 on {state.device}, got {list(found_inf.shape)} "
            f"{found_inf.dtype} on {found_inf.device}; give torch.zeros(1) of that device"
        )


def _check_gradients(state: StepState, gradients: Sequence[Tensor | None]) -> None:
    if len(gradients) != len(state.parameters):
        raise ValueError(
            f"optimizer_step: there must be a gradient or None for each of {len(state.parameters)} "
            f"parameters, got {len(gradients)}; keep the order of the state"
        )
    given = [g for g in gradients if g is not None]
    if len({g.dtype for g in given}) > 1:
        raise ValueError(
            f"optimizer_step: gradients must be of one dtype, got {sorted({str(g.dtype) for g in given})}; "
            "cast those that differ"
        )
    for number, (parameter, gradient) in enumerate(zip(state.parameters, gradients, strict=True)):
        if gradient is None:
            continue
        fits = gradient.shape == parameter.shape and gradient.device == parameter.device
        if not fits or not gradient.is_contiguous():
            raise ValueError(
                f"optimizer_step: gradient {number} must be contiguous and {list(parameter.shape)} on "
                f"{parameter.device}, got {list(gradient.shape)}, strides {gradient.stride()}, on "
                f"{gradient.device}; make it so"
            )
