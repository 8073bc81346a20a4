"""The feed-forward's non-linearity and the product after it: the specification, in plain PyTorch.

Computed in float32, or in float64 where the inputs are.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def gelu_reference(a_TF: Float[Tensor, "T F"]) -> Float[Tensor, "T F"]:
    """a · Φ(a), Φ the normal distribution (the exact form, by erf)."""
    return F.gelu(_exact(a_TF)).to(a_TF.dtype)


def swiglu_reference(a_TF2: Float[Tensor, "T F2"]) -> Float[Tensor, "T F"]:
    """silu(gate) · up of the two halves of each row."""
    gate_TF, up_TF = _exact(a_TF2).chunk(2, dim=-1)
    return (F.silu(gate_TF) * up_TF).to(a_TF2.dtype)


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
