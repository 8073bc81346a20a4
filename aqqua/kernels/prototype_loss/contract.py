"""What the prototype loss is given, and the checks that hold for every implementation.

No check reads a value from the device: that would stall a GPU.
Letter key: R rows of a pack, B teacher rows, K prototypes, Z bottleneck width, G targets of a row.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# A program of the kernels keeps whole bottleneck rows on its SM. DINOv2: 256 and 384.
WIDEST_BOTTLENECK = 512
MOST_TARGETS = 2
GRADIENTS = ("auto", "forward", "in_place", "backward")


@dataclass(frozen=True)
class Projected:
    """Logits z · wᵀ that nobody stores. Both of one floating type, each row contiguous."""

    z_RZ: Float[Tensor, "R Z"]  # bottleneck rows
    w_KZ: Float[Tensor, "K Z"]  # effective prototypes (`last_layer.matrix()`)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.z_RZ), len(self.w_KZ)


Rows = Float[Tensor, "R K"] | Projected


@dataclass(frozen=True)
class Teacher:
    """Solved targets of a pack: p = exp(logits / temperature + log_u − lse)."""

    rows: Float[Tensor, "B K"] | Projected
    log_u_K: Float[Tensor, " K"]  # from `balance`
    lse_B: Float[Tensor, " B"]  # from `row_normalisers` with that log_u
    temperature: float


def tensors(rows: Rows) -> tuple[Tensor, ...]:
    """Stored logits, or bottleneck rows and prototypes."""
    return (rows.z_RZ, rows.w_KZ) if isinstance(rows, Projected) else (rows,)


def sum_dtype(rows: Rows) -> torch.dtype:
    """Type of everything that is summed: float32, or float64 for float64 logits."""
    return torch.promote_types(tensors(rows)[0].dtype, torch.float32)


def check_rows(name: str, rows: Rows, temperature: float) -> None:
    """Raises ValueError unless rows are laid out as the kernels read them and the temperature is one."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"{name}: temperature must be positive and finite, got {temperature}; correct it")
    for x in tensors(rows):
        if x.ndim != 2 or not x.is_floating_point() or (x.numel() > 0 and x.stride(1) != 1):
            raise ValueError(
                f"{name}: rows must be two-dimensional, floating and each contiguous, got {x.dtype} of shape "
                f"{tuple(x.shape)} and strides {x.stride()}; call contiguous()"
            )
    if isinstance(rows, Projected):
        (_, Z), (_, width) = rows.z_RZ.shape, rows.w_KZ.shape
        if width != Z or rows.z_RZ.dtype != rows.w_KZ.dtype or not 1 <= Z <= WIDEST_BOTTLENECK:
            raise ValueError(
                f"{name}: z and w must have one type and width of 1 to {WIDEST_BOTTLENECK}, got "
                f"{rows.z_RZ.dtype} {Z} and {rows.w_KZ.dtype} {width}; cast them, or store the logits"
            )


def check_vector(name: str, what: str, x: Tensor, rows: Rows, length: int) -> None:
    """Raises ValueError unless x is one number of the summing type for each row or prototype."""
    if x.shape != (length,) or x.dtype != sum_dtype(rows) or not x.is_contiguous():
        raise ValueError(
            f"{name}: {what} must be {length} contiguous {sum_dtype(rows)}, got {tuple(x.shape)} of "
            f"{x.dtype}; take it from balance or row_normalisers of the same rows"
        )


def check_pair(student: Rows, teacher: Teacher, temperature: float) -> None:
    """Raises ValueError unless student and teacher are given alike and the targets are solved."""
    check_rows("prototype_loss", student, temperature)
    check_rows("prototype_loss", teacher.rows, teacher.temperature)
    mine, theirs = tensors(student), tensors(teacher.rows)
    alike = len(mine) == len(theirs) and mine[0].dtype == theirs[0].dtype
    if not alike or student.shape[1] != teacher.rows.shape[1] or mine[0].shape[1] != theirs[0].shape[1]:
        shapes = " and ".join(
            ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in side) for side in (mine, theirs)
        )
        raise ValueError(
            f"prototype_loss: student and teacher must be given in one form, type and width, got {shapes}; "
            "store or project both"
        )
    check_vector("prototype_loss", "log_u_K", teacher.log_u_K, student, student.shape[1])
    check_vector("prototype_loss", "lse_B", teacher.lse_B, student, teacher.rows.shape[0])


def check_rows_of_loss(
    student: Rows,
    targets_RG: Int[Tensor, "R G"],
    weight_R: Float[Tensor, " R"],
    crops: int,
    gradient: str,
) -> None:
    """Raises ValueError unless every student row has its targets and weight."""
    R = student.shape[0]
    shape = tuple(targets_RG.shape)
    if (
        targets_RG.dtype != torch.int32
        or targets_RG.ndim != 2
        or shape[0] != R
        or not 1 <= shape[1] <= MOST_TARGETS
        or not targets_RG.is_contiguous()
    ):
        raise ValueError(
            f"prototype_loss: targets must be contiguous int32 of {R} rows with 1 or 2 teacher rows each, "
            f"got {shape} {targets_RG.dtype}; take dino_targets or ibot_targets"
        )
    check_vector("prototype_loss", "weight_R", weight_R, student, R)
    if crops < 1 or R % crops:
        raise ValueError(f"prototype_loss: crops must divide the {R} rows, got {crops}; use 1")
    if gradient not in GRADIENTS:
        raise ValueError(
            f"prototype_loss: gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}; correct it"
        )
