"""The cases that the optimizer's step is timed on: all parameters of a student, with teacher and copies.

One call is a whole step: norms of the sub-modules, clip, AdamW, teacher, 16-bit copies. Nothing goes
backward, so the cases have a forward side alone. Peers: what aqqua.train.optim does, with PyTorch's foreach
and fused AdamW, and torch.compile of the former. Each has its own tensors.
Test: tests/kernels/test_bench_cases.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from case import Case
from torch import Tensor, nn

from aqqua.kernels.optim import Rates, StepState, optimizer_step, rates_table
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import Network, ObjectiveConfig
from aqqua.train.optim import OptimConfig, parameter_groups

MODELS = {size: (ModelConfig(size=size), ObjectiveConfig()) for size in ("large", "small", "base")}
RATES, MOMENTUM, MAX_NORM = Rates(1e-3, 0.04), 0.994, 3.0
BYTES = 4 + 36  # of a parameter: its gradient twice; itself, two moments and teacher read and written


@dataclass
class Student:
    """The tensors of one backend."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    teachers: list[Tensor]
    copies: list[Tensor] | None
    group_S: list[int]
    module_S: list[int]

    def answer(self, norms_M: Tensor) -> list[Tensor]:
        """What a step gives, to compare backends by."""
        return [norms_M, *self.parameters, *self.teachers, *(self.copies or [])]


def cases(
    device: torch.device | str = "cuda",
    models: dict[str, tuple[ModelConfig, ObjectiveConfig]] = MODELS,
) -> Iterator[Case]:
    """For each model, as the engine steps (no copies), and with bfloat16 copies of the parameters."""
    for name, (model, objective) in models.items():
        with torch.device("meta"):
            network = Network(model, objective)
        groups = parameter_groups(network, model.layers, OptimConfig())
        for copies in (False, True):
            torch._dynamo.reset()
            values = sum(p.numel() for p in network.parameters())
            yield Case(
                name=f"optim {name}{', bfloat16 copies' if copies else ''}",
                forward={key: BACKENDS[key](_drawn(network, groups, device, copies)) for key in BACKENDS},
                both={},
                forward_bytes=values * (BYTES + 2 * copies),
                both_bytes=0,
            )


def _drawn(network: nn.Module, groups: list[dict], device: torch.device | str, copies: bool) -> Student:
    """Random values, the same every time, in the shapes of the network's parameters."""
    generator = torch.Generator(device).manual_seed(0)
    named = dict(network.named_parameters())
    modules = [name for name, _ in network.named_children()]
    group = {name: number for number, g in enumerate(groups) for name in g["names"]}

    def draw() -> list[Tensor]:
        return [torch.randn(p.shape, generator=generator, device=device) for p in named.values()]

    parameters, gradients, teachers = draw(), draw(), draw()
    return Student(
        parameters, gradients, teachers, [p.bfloat16() for p in parameters] if copies else None,
        [group[name] for name in named], [modules.index(name.partition(".")[0]) for name in named],
    )  # fmt: skip


def _ours(student: Student) -> Callable[[], list[Tensor]]:
    state = StepState.of(
        student.parameters, student.group_S, student.module_S, student.teachers, student.copies
    )  # fmt: skip
    found = torch.zeros(1, device=state.device)

    def step() -> list[Tensor]:
        rates = rates_table([RATES] * state.groups, MOMENTUM, state.device)
        norms = optimizer_step(state, student.gradients, rates, MAX_NORM, found, backend="triton")
        return student.answer(norms)

    return step


def _pytorch(student: Student, fused: bool) -> Callable[[], list[Tensor]]:
    """As aqqua.train.optim's clip_gradients, AdamW and ema_update, without waiting for the norms."""
    parameters = [nn.Parameter(p) for p in student.parameters]
    for parameter, gradient in zip(parameters, student.gradients, strict=True):
        parameter.grad = gradient
    optimizer = torch.optim.AdamW(
        [{"params": _of(parameters, student.group_S, number)} for number in sorted({*student.group_S})],
        lr=RATES.lr, weight_decay=RATES.weight_decay, betas=(RATES.beta1, RATES.beta2), eps=RATES.eps,
        fused=fused, foreach=not fused,
    )  # fmt: skip

    @torch.no_grad()
    def step() -> list[Tensor]:
        norms = [_clip(_of(student.gradients, student.module_S, m)) for m in sorted({*student.module_S})]
        optimizer.step()
        torch._foreach_lerp_(student.teachers, student.parameters, 1.0 - MOMENTUM)
        if student.copies is not None:
            torch._foreach_copy_(student.copies, student.parameters)
        return student.answer(torch.stack(norms))

    return step


def _clip(gradients: list[Tensor]) -> Tensor:
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32)))
    torch._foreach_mul_(gradients, (MAX_NORM / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _of(tensors: Sequence, number_S: Sequence[int], wanted: int) -> list:
    return [tensor for tensor, number in zip(tensors, number_S, strict=True) if number == wanted]


BACKENDS: dict[str, Callable[[Student], Callable[[], list[Tensor]]]] = {
    "eager": partial(_pytorch, fused=False),
    "fused": partial(_pytorch, fused=True),
    "torch.compile": lambda student: torch.compile(_pytorch(student, fused=False)),
    "triton": _ours,
}
