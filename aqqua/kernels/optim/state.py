"""What an optimizer step moves, and its rates.

Letter key: S tensors, G groups of one rate, M modules that are clipped each by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

COPY_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Rates:
    """AdamW's numbers for one group of parameters, as torch.optim.AdamW takes them."""

    lr: float
    weight_decay: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


def rates_table(rates: Sequence[Rates], momentum: float, device: torch.device | str) -> Float[Tensor, "G 6"]:
    """The rates of a step as a float64 tensor on the device: lr, weight decay, β₁, β₂, ε, momentum.

    Args:
        rates: of each group.
        momentum: of the teacher; 1 leaves it alone. Without teachers it is not looked at.

    Raises:
        ValueError: momentum is outside [0, 1].
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"rates_table: momentum must be within [0, 1], got {momentum}; correct the schedule")
    rows = [[r.lr, r.weight_decay, r.beta1, r.beta2, r.eps, momentum] for r in rates]
    return to_device(torch.tensor(rows, dtype=torch.float64), device)


def to_device(table: Tensor, device: torch.device | str) -> Tensor:
    """A host table on the device, without a wait: the pinned copy is kept until it has been read."""
    on_gpu = torch.device(device).type == "cuda"
    return (table.pin_memory() if on_gpu else table).to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class StepState:
    """The tensors that a step moves, all on one device; make it by `of`.

    Attributes:
        parameters: float32 (float64: reference only), contiguous.
        averages, squares: AdamW's moments of each, as `exp_avg` and `exp_avg_sq` of torch.optim.
        counts_S: float32: steps taken by each, as `step` of torch.optim.
        group_S, module_S: row of each in the table of rates, and module it is clipped with.
        teachers: that follow each parameter, in its dtype; None: no teacher.
        copies: bfloat16 or float16, of each parameter after the step; None: no copies.
    """

    parameters: tuple[Tensor, ...]
    averages: tuple[Tensor, ...]
    squares: tuple[Tensor, ...]
    counts_S: Float[Tensor, " S"]
    group_S: tuple[int, ...]
    module_S: tuple[int, ...]
    teachers: tuple[Tensor, ...] | None = None
    copies: tuple[Tensor, ...] | None = None

    @classmethod
    def of(
        cls,
        parameters: Sequence[Tensor],
        group_S: Sequence[int],
        module_S: Sequence[int],
        teachers: Sequence[Tensor] | None = None,
        copies: Sequence[Tensor] | None = None,
    ) -> "StepState":
        """The state before the first step: moments of zero, counts of zero.

        Raises:
            ValueError: there is no parameter, or shapes, dtypes or devices do not fit together.
        """
        if not parameters:
            raise ValueError("StepState: there must be a parameter, got none; give those that train")
        parameters = tuple(p.detach() for p in parameters)
        state = cls(
            parameters,
            tuple(torch.zeros_like(p) for p in parameters),
            tuple(torch.zeros_like(p) for p in parameters),
            torch.zeros(len(parameters), device=parameters[0].device),
            tuple(group_S),
            tuple(module_S),
            None if teachers is None else tuple(t.detach() for t in teachers),
            None if copies is None else tuple(c.detach() for c in copies),
        )
        _check(state)
        return state

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    @cached_property
    def groups(self) -> int:
        """G."""
        return max(self.group_S) + 1

    @cached_property
    def modules(self) -> int:
        """M."""
        return max(self.module_S) + 1

    @property
    def moved(self) -> list[tuple[Tensor, ...]]:
        """Parameters, averages, squares, and teachers and copies where there are any."""
        kinds = self.parameters, self.averages, self.squares, self.teachers, self.copies
        return [tensors for tensors in kinds if tensors is not None]


def _check(state: StepState) -> None:
    numbers = (state.group_S, state.module_S)
    lengths = [len(kind) for kind in (*numbers, *state.moved)]
    if set(lengths) != {len(state.parameters)} or min(min(kind) for kind in numbers) < 0:
        raise ValueError(
            f"StepState: groups, modules, teachers and copies must be one for each of "
            f"{len(state.parameters)} parameters, from 0 on, got {lengths}; keep one order for all"
        )
    dtype, device = state.parameters[0].dtype, state.device
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"StepState: parameters must be float32, got {dtype}; 16-bit weights are `copies` of them"
        )
    copy_dtype = state.copies[0].dtype if state.copies is not None else COPY_DTYPES[0]
    if copy_dtype not in COPY_DTYPES:
        raise ValueError(f"StepState: copies must be bfloat16 or float16, got {copy_dtype}; make them so")
    for tensors in state.moved:
        want = copy_dtype if tensors is state.copies else dtype
        for number, (tensor, parameter) in enumerate(zip(tensors, state.parameters, strict=True)):
            same = tensor.shape == parameter.shape and tensor.device == device and tensor.dtype == want
            if not same or not tensor.is_contiguous():
                raise ValueError(
                    f"StepState: tensor {number} must be contiguous, {list(parameter.shape)} {want} on "
                    f"{device}, got {list(tensor.shape)} {tensor.dtype} on {tensor.device}, strides "
                    f"{tensor.stride()}; make it so"
                )
