"""Sinkhorn targets and cross-entropy over K = 65 536 to 262 144 prototypes, no probability in memory.

DINOv2 makes the teacher's probabilities a [B, K] float32 array and passes over it again and again: 39·T
bytes per teacher row and 17·T per student row, T = 4·K (0.5 MB at K = 131 072). Nothing of that is needed:

- The solved targets are p = exp(t / T + log_u − lse): K numbers for the step (`balance`) and one for each
  row (`row_normalisers`).
- The loss of a row is Σ_k p_k · (lse_s − s_k / τ), its gradient (mass · softmax(s / τ) − p) / τ. p is made
  on the way, in registers (`prototype_loss`).

Two ways to give logits, both for teacher and student:

*Stored*, a tensor [R, K] in bfloat16 (2·K bytes). Bytes per row, in units of K: teacher 14 = 2 written by
the product, 2 read by the first iteration, which needs no row sums, 4 by each of the two others, 2 for the
last normaliser. An iteration reads twice because a row's sum must be complete before any of its columns may
use it, and the row (262 kB at K = 131 072) fits no SM. Student 16 = 2 written, 4 + 4 for student and teacher
logits in the two loops of the loss, 2 for the gradient, 4 to read it in the two products that follow. 30·K
in all for a pair of rows, 7.5·T against DINOv2's 56·T; at 4.3 TB/s and K = 131 072 0.9 µs. With
gradient="in_place" the gradient replaces the student's logits, and 2·K bytes per row is all that lives.

*Projected*, bottleneck rows [R, Z] and prototypes [K, Z]: every pass makes its logits again, tile by tile,
and none is ever written. 6 products of 2·K·Z for the teacher (1 + 2 + 2 + 1), 2 for the loss, 3 for each of
the two gradients: 14 · 67 MFLOP, 1.2 µs a pair at 790 TFLOP/s (K = 131 072, Z = 256). What grows with rows
times K are sums over 8192 prototypes, K / 8 bytes per row at Z = 256, a sixteenth of its logits: this is
the form for packs whose logits do not fit. A row with two targets counts as two rows with one.

Letter key: R rows of a pack, B teacher rows, K prototypes, Z bottleneck width, N partials, G targets.
Specification: reference.py. Test: tests/kernels/test_prototype_loss.py. Sums are kept in float32.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.kernels.choice import choose
from aqqua.kernels.prototype_loss import reference
from aqqua.kernels.prototype_loss.contract import (
    Projected,
    Rows,
    Teacher,
    check_pair,
    check_rows,
    check_rows_of_loss,
    check_vector,
    sum_dtype,
    tensors,
)
from aqqua.kernels.prototype_loss.reference import stored
from aqqua.kernels.prototype_loss.sinkhorn import AllReduce, Partials, iterate
from aqqua.kernels.prototype_loss.targets import dino_targets, ibot_targets

__all__ = [
    "AllReduce",
    "Projected",
    "Rows",
    "Teacher",
    "balance",
    "column_sums",
    "dino_targets",
    "ibot_targets",
    "prototype_loss",
    "row_normalisers",
    "stored",
    "tensors",
]


def alone(x: Tensor, op: Literal["sum", "max"]) -> Tensor:  # noqa: ARG001  the signature of AllReduce
    """The reduction of a single rank."""
    return x


def row_normalisers(
    rows: Rows, temperature: float, log_u_K: Float[Tensor, " K"], backend: str = "auto"
) -> Float[Tensor, " R"]:
    """log Σ_k exp(logits / temperature + log_u) of every row, float32 (float64 for float64 logits).

    Raises:
        ValueError: shapes, types or strides do not fit together, the temperature is not positive, or an
            unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    check_rows("row_normalisers", rows, temperature)
    check_vector("row_normalisers", "log_u_K", log_u_K, rows, rows.shape[1])
    if _serving(rows, backend) == "reference":
        return reference.row_normalisers_reference(stored(rows), log_u_K, temperature)
    from aqqua.kernels.prototype_loss import ops  # needs Triton

    if isinstance(rows, Projected):
        return ops.row_normalisers_projected(rows.z_RZ, rows.w_KZ, log_u_K, 1 / temperature)
    return ops.row_normalisers(rows, log_u_K, 1 / temperature)


def column_sums(
    rows: Rows,
    temperature: float,
    log_u_K: Float[Tensor, " K"],
    lse_R: Float[Tensor, " R"],
    backend: str = "auto",
) -> tuple[Float[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Σ_r exp(logits / temperature + log_u − lse) of every column, in logs.

    Args:
        lse_R: zeros before the first iteration, when all rows have the same scaling.

    Returns:
        For each of N shares of the rows the largest logarithm, and the sum of exp relative to it. A NaN
        among the logits is in both. N is 0 for no row.

    Raises:
        ValueError, RuntimeError: as `row_normalisers`.
    """
    check_rows("column_sums", rows, temperature)
    check_vector("column_sums", "log_u_K", log_u_K, rows, rows.shape[1])
    check_vector("column_sums", "lse_R", lse_R, rows, rows.shape[0])
    if _serving(rows, backend) == "reference":
        return reference.column_sums_reference(stored(rows), log_u_K, lse_R, temperature)
    from aqqua.kernels.prototype_loss import ops  # needs Triton

    if isinstance(rows, Projected):
        return ops.column_sums_projected(rows.z_RZ, rows.w_KZ, log_u_K, lse_R, 1 / temperature)
    return ops.column_sums(rows, log_u_K, lse_R, 1 / temperature)


@torch.no_grad()
def balance(
    packs: Sequence[Tensor | Projected],
    temperature: float,
    iterations: int = 3,
    all_reduce: AllReduce = alone,
    backend: str = "auto",
) -> Float[Tensor, " K"]:
    """log_u of the balanced assignment of all teacher rows of a step to prototypes (Sinkhorn-Knopp).

    Args:
        packs: the teacher `Rows` of each pack on this rank; a pack may have none. The result has the same
            bits for every distribution of the packs over ranks and for every order.
        temperature: teacher temperature T, for example 0.04 to 0.07.
        iterations: row-and-column scalings; DINOv2 uses 3.
        all_reduce: the element-wise sum or maximum of a tensor over all ranks. Called twice per
            iteration on every rank with [K] tensors (float32 for max, int64 for sum) made here; it may
            work in place.

    Raises:
        ValueError, RuntimeError: as `row_normalisers`; no pack, or fewer than one iteration.

    Source: dinov2/loss/dino_clstoken_loss.py `sinkhorn_knopp_teacher`, in log form.
    """
    if not packs:
        raise ValueError("sinkhorn: needs at least one tensor of logits, got none; pass one with 0 rows")
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations must be at least 1, got {iterations}; DINOv2 uses 3")
    for pack in packs:
        check_rows("sinkhorn", pack, temperature)
    served = _serving(packs[0], backend)
    if served == "reference":
        join = reference.join_reference
    else:
        from aqqua.kernels.prototype_loss import ops  # needs Triton

        join = ops.join

    def sweep_rows(pack: Rows, log_u_K: Tensor) -> Tensor:
        return row_normalisers(pack, temperature, log_u_K, served)

    def sweep_columns(pack: Rows, log_u_K: Tensor, lse_R: Tensor | None) -> Partials:
        lse_R = log_u_K.new_zeros(pack.shape[0]) if lse_R is None else lse_R
        return column_sums(pack, temperature, log_u_K, lse_R, served)

    device = tensors(packs[0])[0].device
    start_K = torch.zeros(packs[0].shape[1], dtype=sum_dtype(packs[0]), device=device)
    return iterate(packs, start_K, iterations, (sweep_rows, sweep_columns, join), all_reduce)


def prototype_loss(
    student: Rows,
    teacher: Teacher,
    targets_RG: Int[Tensor, "R G"],
    weight_R: Float[Tensor, " R"],
    temperature: float = 0.1,
    crops: int = 1,
    gradient: str = "auto",
    backend: str = "auto",
) -> Float[Tensor, " R"]:
    """weight · cross-entropy between a row's targets and the student's logits, one value per row.

    Args:
        student: logits; the gradient goes to them, or to z_RZ and w_KZ.
        teacher: the other side, in the same form and type as the student; takes no gradient.
        targets_RG: int32, on the device: the one or two (G) teacher rows whose probabilities add up to
            the row's target, −1 for none; from `dino_targets` or `ibot_targets`. Their range is not
            checked, as that would stall a GPU.
        weight_R: factor of each row's loss, with every constant that is known (1 / masked patches, the
            weight of the loss, 1 / crops of the step). Takes no gradient.
        temperature: student temperature τ, 0.1 in DINOv2 and DINOv3.
        crops: the rows are this many equal blocks whose n-th rows belong to one image; such rows are
            worked on together, as they share their teacher rows. Changes no value.
        gradient: of stored logits by Triton, when to make it. 'forward': with the loss, in one go;
            the backward pass only multiplies by the upstream gradient of loss_R, which costs nothing where
            that is 1 (the plain sum of all losses). 'in_place': so, and over the student's logits, which
            nobody may use again. Both allow one backward pass. 'backward': afterwards, reading the logits
            twice more, but for any upstream gradient of float16. 'auto': 'backward' for float16,
            else 'forward'. Elsewhere this is ignored.

    Returns:
        float32 (float64 for float64 logits).

    Raises:
        ValueError, RuntimeError: as `row_normalisers`.
    """
    check_pair(student, teacher, temperature)
    check_rows_of_loss(student, targets_RG, weight_R, crops, gradient)
    if _serving(student, backend) == "reference":
        return reference.prototype_loss_reference(
            stored(student),
            stored(teacher.rows),
            teacher.log_u_K,
            teacher.lse_B,
            targets_RG,
            weight_R,
            temperature,
            teacher.temperature,
        )
    from aqqua.kernels.prototype_loss import ops  # needs Triton

    inverses = (1 / temperature, 1 / teacher.temperature)
    if isinstance(student, Projected):
        return _projected_loss(student, teacher, targets_RG, weight_R, inverses)
    solved = (teacher.log_u_K, teacher.lse_B, targets_RG, weight_R, *inverses)
    wanted = torch.is_grad_enabled() and student.requires_grad
    if gradient == "in_place" and wanted:
        return ops.loss_in_place(student, teacher.rows, *solved, crops)
    now = gradient != "backward" and not (gradient == "auto" and student.dtype == torch.float16)
    return ops.loss_stored(student, teacher.rows, *solved, crops, wanted and now)[0]


def _projected_loss(
    student: Projected,
    teacher: Teacher,
    targets_RG: Tensor,
    weight_R: Tensor,
    inverses: tuple[float, float],
) -> Tensor:
    """Cross-entropy is linear in the target: a row with G targets is G rows with one."""
    from aqqua.kernels.prototype_loss import ops  # needs Triton

    R, G = targets_RG.shape
    z = student.z_RZ[:, None].expand(-1, G, -1).flatten(0, 1)
    weight = weight_R[:, None].expand(-1, G).flatten()
    solved = (teacher.log_u_K, teacher.lse_B, targets_RG.flatten(), weight, *inverses)
    loss, *_ = ops.loss_projected(z, student.w_KZ, *tensors(teacher.rows), *solved)
    return loss.view(R, G).sum(dim=1)


def _serving(rows: Rows, backend: str) -> str:
    """Name of the implementation that serves these rows.

    Raises:
        ValueError: an unknown backend.
        RuntimeError: the backend cannot serve here. Tiles of float32 bottleneck rows of 256 pass the
            registers of a thread and the shared memory of an SM (seen when compiled for compute
            capability 9.0), so projected rows in float32 have no kernel on a GPU.
    """
    some = tensors(rows)[0]
    name = choose("prototype_loss", some.device, some.dtype, backend)
    if name == "triton" and isinstance(rows, Projected) and some.is_cuda and some.dtype == torch.float32:
        raise RuntimeError(
            "prototype_loss backend 'triton' needs 16 bits for projected rows, got torch.float32; store the "
            "logits, or use bfloat16"
        )
    return name
