"""The cases that Sinkhorn and the cross-entropy over prototypes are timed on.

One call is the work on one pack: from the bottleneck rows and prototypes of teacher and student, by three
Sinkhorn iterations, to the loss (forward), and to the gradients of the student's rows and prototypes (both).
The products with the prototypes are part of it, as one of our two forms makes them on the way.

- eager: DINOv2's code (dinov2/loss/dino_clstoken_loss.py, ibot_patch_loss.py), a single rank.
- logs: the same in logs with row and column scalings, by plain PyTorch: our specification.
- triton: logits stored in the rows' type, their gradient in their place. triton projected: never stored.

iBOT pairs every student row with a teacher row; DINO has 2 global and 8 local crops per image. Bytes are
those of stored logits (docstring of aqqua.kernels.prototype_loss), the operations those of the products.
Test: tests/kernels/test_prototype_loss_contract.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from case import Case, missing
from torch import Tensor

from aqqua.kernels.prototype_loss import (
    Projected,
    Rows,
    Teacher,
    balance,
    dino_targets,
    ibot_targets,
    prototype_loss,
    row_normalisers,
)

TEACHER_T, STUDENT_T = 0.07, 0.1
ITERATIONS = 3
GLOBALS, CROPS = 2, 10
Loss = Callable[["Inputs"], Tensor]


@dataclass(frozen=True)
class Inputs:
    """One pack."""

    student: tuple[Tensor, Tensor]  # bottleneck rows [R, Z], prototypes [K, Z]; want gradients
    teacher: tuple[Tensor, Tensor]  # [B, Z], [K, Z]
    targets_RG: Tensor
    weight_R: Tensor
    crops: int


def cases(
    device: torch.device | str = "cuda",
    K: int = 131_072,
    Z: int = 256,
    rows: int = 4096,
    images: int = 128,
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[Case]:
    """iBOT's `rows` pairs of rows, and DINO's crops of `images`."""
    ibot = (rows, rows, ibot_targets(rows), 1)
    dino = (CROPS * images, GLOBALS * images, dino_targets(CROPS, GLOBALS, images), CROPS)
    for name, (R, B, targets_RG, crops) in (("iBOT", ibot), ("DINO", dino)):
        generator = torch.Generator().manual_seed(0)
        sides = [
            tuple(
                torch.nn.functional.normalize(torch.randn(n, Z, generator=generator), dim=1).to(device, dtype)
                for n in (count, K)
            )
            for count in (R, B)
        ]
        weight_R = torch.full((R,), 1 / R, device=device)
        student = tuple(x.requires_grad_() for x in sides[0])
        yield _case(name, Inputs(student, sides[1], targets_RG.to(device), weight_R, crops))


def _case(name: str, inputs: Inputs) -> Case:
    torch._dynamo.reset()  # its limit of recompilations counts all cases together
    losses: dict[str, Loss] = {
        "eager": _eager,
        "torch.compile": torch.compile(_eager, dynamic=False),
        "logs": lambda x: _ours(x, projected=False, backend="reference"),
        "triton": lambda x: _ours(x, projected=False, backend="triton"),
        "triton projected": lambda x: _ours(x, projected=True, backend="triton"),
    }
    (R, Z), K, B = inputs.student[0].shape, len(inputs.student[1]), len(inputs.teacher[0])
    unit = K * inputs.student[0].itemsize
    return Case(
        name=f"prototype_loss {name}, K {K}, Z {Z}, {R} student and {B} teacher rows",
        forward={key: _forward(loss, inputs) for key, loss in losses.items()},
        both={key: _both(loss, inputs) for key, loss in losses.items()},
        forward_bytes=unit * ((7 + 1) * B + 2 * R),
        both_bytes=unit * ((7 + 2) * B + 6 * R),
        forward_flops=2 * K * Z * (R + B),
        both_flops=2 * K * Z * (3 * R + B),
        computes_in=inputs.student[0].dtype,
        not_run={
            **dict.fromkeys(("liger_kernel", "cut_cross_entropy"), "knows hard labels only"),
            **missing(["liger_kernel", "cut_cross_entropy"]),
        },
    )


def _forward(loss: Loss, inputs: Inputs) -> Callable[[], object]:
    def call() -> Tensor:
        with torch.no_grad():
            return loss(inputs)

    return call


def _both(loss: Loss, inputs: Inputs) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(inputs), inputs.student)


def _eager(inputs: Inputs) -> Tensor:
    """As published, in float32 from the logits on; rows with two targets take the sum of both."""
    with torch.no_grad():
        q_KB = torch.exp((inputs.teacher[0] @ inputs.teacher[1].T).float() / TEACHER_T).T
        K, B = q_KB.shape
        q_KB /= q_KB.sum()
        for _ in range(ITERATIONS):
            q_KB /= q_KB.sum(dim=1, keepdim=True)
            q_KB /= K
            q_KB /= q_KB.sum(dim=0, keepdim=True)
            q_KB /= B
        q_BK = (q_KB * B).T
        none_1K = q_BK.new_zeros(1, K)
        target_RK = torch.cat([q_BK, none_1K])[inputs.targets_RG.long()].sum(dim=1)
    log_p_RK = ((inputs.student[0] @ inputs.student[1].T).float() / STUDENT_T).log_softmax(dim=1)
    return -((target_RK * log_p_RK).sum(dim=1) * inputs.weight_R).sum()


def _ours(inputs: Inputs, projected: bool, backend: str) -> Tensor:
    def rows(side: tuple[Tensor, Tensor]) -> Rows:
        return Projected(*side) if projected else side[0] @ side[1].T

    teacher_rows = rows(inputs.teacher)
    log_u_K = balance([teacher_rows], TEACHER_T, ITERATIONS, backend=backend)
    lse_B = row_normalisers(teacher_rows, TEACHER_T, log_u_K, backend)
    teacher = Teacher(teacher_rows, log_u_K, lse_B, TEACHER_T)
    fixed = (inputs.targets_RG, inputs.weight_R, STUDENT_T, inputs.crops, "in_place", backend)
    return prototype_loss(rows(inputs.student), teacher, *fixed).sum()
