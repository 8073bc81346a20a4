"""A branch's output onto the residual stream, and the next branch's normed input, in one pass.

A pre-norm transformer is a chain: norm, branch, residual, norm, branch, residual, ... Cut between branch
and residual, each link is one op: y = x + gain · gamma · branch, z = LayerNorm(y). With stochastic depth a
branch holds the tokens of the views it keeps, re-packed; scattering this branch's rows and gathering the
next branch's are part of the same pass, so no row of a dropped view is ever made.

    z = norm_rows(x, norm_1, kept=kept[0])
    x, z = residual_norm(x, branch_1(z), gamma_1, norm_2, kept=kept[0], next_kept=kept[1])
    x, z = residual_norm(x, branch_2(z), gamma_2, norm_3, kept=kept[1], next_kept=kept[2])   ...

Letter key: T tokens, D width, U tokens kept by this branch, W tokens kept by the next.
Specification: reference.py. Test: tests/kernels/test_residual_norm.py. Timing: bench/kernels/.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.choice import BACKENDS, choose
from aqqua.kernels.residual_norm.kept import Kept, kept_of_branches
from aqqua.kernels.residual_norm.reference import add_branch_reference, norm_rows_reference

__all__ = ["BACKENDS", "Kept", "kept_of_branches", "norm_rows", "residual_norm"]

WIDEST = 2048  # a row lies in the registers of one program


def norm_rows(
    x_TD: Float[Tensor, "T D"],
    weight_D: Float[Tensor, " D"],
    bias_D: Float[Tensor, " D"],
    *,
    kept: Kept | None = None,
    dtype: torch.dtype | None = None,
    eps: float = 1e-6,
    backend: str = "auto",
) -> Float[Tensor, "U D"]:
    """LayerNorm of the kept rows: what opens the chain.

    Args:
        x_TD: the residual stream, contiguous.
        weight_D, bias_D: of the norm.
        kept: rows of the branch that follows; None: all.
        dtype: of the result; None takes x_TD's.
        backend: 'auto', or a name of BACKENDS to force it.

    Raises:
        ValueError: shapes, dtypes or tables do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    dtype = dtype or x_TD.dtype
    _check("norm_rows", x_TD, {"weight": weight_D, "bias": bias_D}, {"kept": kept})
    if choose("residual_norm", x_TD.device, x_TD.dtype, backend) == "reference":
        return norm_rows_reference(x_TD, weight_D, bias_D, _rows(kept), dtype, eps)
    from aqqua.kernels.residual_norm import op

    rows = x_TD.shape[0] if kept is None else kept.rows_U.shape[0]
    return op.norm_rows(x_TD, weight_D, bias_D, _positions(kept), rows, dtype, eps)[0]


def residual_norm(
    x_TD: Float[Tensor, "T D"],
    branch_UD: Float[Tensor, "U D"],
    gamma_D: Float[Tensor, " D"],
    weight_D: Float[Tensor, " D"],
    bias_D: Float[Tensor, " D"],
    *,
    gain: float = 1.0,
    kept: Kept | None = None,
    next_kept: Kept | None = None,
    dtype: torch.dtype | None = None,
    eps: float = 1e-6,
    backend: str = "auto",
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "W D"]]:
    """The stream after a branch, and its norm on the rows that the next branch keeps.

    Args:
        x_TD: the residual stream, contiguous, float32, bfloat16 or float16 (float64: reference only).
        branch_UD: output of the branch on its kept rows, contiguous; may be of another dtype than x_TD.
        gamma_D: LayerScale.
        weight_D, bias_D: of the next norm.
        gain: what stochastic depth multiplies the branch by, views over kept views; 1 without it.
        kept: rows this branch ran on; None: all, then U is T.
        next_kept: rows the next branch runs on; None: all, then W is T.
        dtype: of the normed rows; None takes the branch's.
        eps: added to the variance (DINOv2: 1e-6).
        backend: 'auto', or a name of BACKENDS to force it.

    Returns:
        y_TD = x + gain · gamma · branch on the kept rows and x elsewhere, in x_TD's dtype; and
        LayerNorm(y_TD) on the next kept rows. Sums are kept in float32.

    Raises:
        ValueError: shapes, dtypes or tables do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    dtype = dtype or branch_UD.dtype
    vectors = {"gamma": gamma_D, "weight": weight_D, "bias": bias_D}
    _check("residual_norm", x_TD, vectors, {"kept": kept, "next_kept": next_kept})
    rows = x_TD.shape[0] if kept is None else kept.rows_U.shape[0]
    if branch_UD.shape != (rows, x_TD.shape[1]) or not branch_UD.is_contiguous():
        raise ValueError(
            f"residual_norm: the branch must be contiguous and [{rows}, {x_TD.shape[1]}], one row per kept "
            f"token, got {list(branch_UD.shape)}, strides {branch_UD.stride()}; give the branch's own rows"
        )
    if choose("residual_norm", x_TD.device, x_TD.dtype, backend) == "reference":
        y_TD = add_branch_reference(x_TD, branch_UD, gamma_D, gain, _rows(kept))
        return y_TD, norm_rows_reference(y_TD, weight_D, bias_D, _rows(next_kept), dtype, eps)
    from aqqua.kernels.residual_norm import op

    next_rows = x_TD.shape[0] if next_kept is None else next_kept.rows_U.shape[0]
    tables = _positions(kept), weight_D, bias_D, _positions(next_kept)
    return op.residual_norm(x_TD, branch_UD, gamma_D, *tables, next_rows, gain, dtype, eps)[:2]


def _rows(kept: Kept | None) -> Tensor | None:
    return None if kept is None else kept.rows_U


def _positions(kept: Kept | None) -> Tensor | None:
    return None if kept is None else kept.position_T


def _check(name: str, x_TD: Tensor, vectors: dict[str, Tensor], tables: dict[str, Kept | None]) -> None:
    if x_TD.ndim != 2 or not x_TD.is_contiguous() or not 1 <= x_TD.shape[1] <= WIDEST:
        raise ValueError(
            f"{name}: x must be contiguous and [T, D] with D up to {WIDEST}, got {list(x_TD.shape)}, strides "
            f"{x_TD.stride()}; make it contiguous"
        )
    for what, vector in vectors.items():
        if vector.shape != x_TD.shape[1:] or not vector.is_contiguous():
            raise ValueError(
                f"{name}: {what} must be contiguous and [{x_TD.shape[1]}], got {list(vector.shape)}; "
                "take it from a layer of x's width"
            )
    for what, kept in tables.items():
        if kept is None:
            continue
        position_T = kept.position_T
        if position_T.shape != x_TD.shape[:1] or position_T.dtype != torch.int32:
            raise ValueError(
                f"{name}: {what} must be made for the {x_TD.shape[0]} tokens of x, int32, got "
                f"{list(position_T.shape)} {position_T.dtype}; make it by Kept.of"
            )
