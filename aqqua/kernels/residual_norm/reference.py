"""Residual + LayerScale + stochastic depth + LayerNorm: the specification, in plain PyTorch.

Sums are kept in float32, or in float64 where the inputs are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import layer_norm


def norm_rows_reference(
    x_TD: Float[Tensor, "T D"],
    weight_D: Float[Tensor, " D"],
    bias_D: Float[Tensor, " D"],
    rows_U: Int[Tensor, " U"] | None,
    dtype: torch.dtype,
    eps: float,
) -> Float[Tensor, "U D"]:
    """z = LayerNorm(x)[rows]."""
    exact = torch.promote_types(x_TD.dtype, torch.float32)
    x_UD = x_TD.to(exact) if rows_U is None else x_TD.index_select(0, rows_U).to(exact)
    return layer_norm(x_UD, x_UD.shape[1:], weight_D.to(exact), bias_D.to(exact), eps).to(dtype)


def add_branch_reference(
    x_TD: Float[Tensor, "T D"],
    branch_UD: Float[Tensor, "U D"],
    gamma_D: Float[Tensor, " D"],
    gain: float,
    rows_U: Int[Tensor, " U"] | None,
) -> Float[Tensor, "T D"]:
    """y = x + gain · gamma · branch on the kept rows, x elsewhere."""
    exact = torch.promote_types(x_TD.dtype, torch.float32)
    step_UD = gain * gamma_D.to(exact) * branch_UD.to(exact)
    y_TD = x_TD.to(exact) + step_UD if rows_U is None else x_TD.to(exact).index_add(0, rows_U, step_UD)
    return y_TD.to(x_TD.dtype)
