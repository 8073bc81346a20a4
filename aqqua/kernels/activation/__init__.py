"""The feed-forward's non-linearity, GELU or SwiGLU, alone or with the product that follows it.

`activated_linear` is the one to train with: it keeps the pre-activation only, and makes the activation
again in the pass that turns its gradient into the pre-activation's, where PyTorch keeps both. At width 4·D
in bf16 that is 8·D bytes per token and layer.

Letter key: T tokens, F hidden width, D width of the output.
Specification: reference.py. Test: tests/kernels/test_activation.py. Timing: bench/kernels/.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from aqqua.kernels.activation.reference import gelu_reference, swiglu_reference
from aqqua.kernels.choice import BACKENDS, choose

__all__ = ["BACKENDS", "Kind", "activated_linear", "gelu", "swiglu"]

Kind = Literal["gelu", "swiglu"]
_REFERENCE = {"gelu": gelu_reference, "swiglu": swiglu_reference}


def gelu(a_TF: Float[Tensor, "T F"], backend: str = "auto") -> Float[Tensor, "T F"]:
    """a · Φ(a), the exact form, computed in float32.

    Args:
        a_TF: contiguous, float32, bfloat16 or float16 (float64: reference only).
        backend: 'auto', or a name of BACKENDS to force it.

    Raises:
        ValueError: a_TF is not a contiguous matrix, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    return _activate(a_TF, "gelu", backend)


def swiglu(a_TF2: Float[Tensor, "T F2"], backend: str = "auto") -> Float[Tensor, "T F"]:
    """silu(gate) · up, where each row of a holds F gates and then F values; otherwise as gelu."""
    return _activate(a_TF2, "swiglu", backend)


def activated_linear(
    a_TF: Float[Tensor, "T _"],
    weight_DF: Float[Tensor, "D F"],
    bias_D: Float[Tensor, " D"],
    kind: Kind,
    backend: str = "auto",
) -> Float[Tensor, "T D"]:
    """linear(activation(a), weight, bias), of which only a is kept for the backward pass.

    Args:
        a_TF: pre-activation, contiguous; 2·F wide for 'swiglu'.
        weight_DF, bias_D: of the linear layer; used in a's dtype, as autocast would.
        kind: 'gelu' or 'swiglu'.
        backend: 'auto', or a name of BACKENDS to force it.

    Raises:
        ValueError: shapes do not fit together, a_TF is not contiguous, or an unknown kind or backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check(a_TF, kind)
    width = a_TF.shape[1] // (2 if kind == "swiglu" else 1)
    if weight_DF.ndim != 2 or weight_DF.shape[1] != width or bias_D.shape != weight_DF.shape[:1]:
        raise ValueError(
            f"activated_linear: weight and bias must be [D, {width}] and [D], got "
            f"{list(weight_DF.shape)} and {list(bias_D.shape)}; take them from the layer after it"
        )
    weight_DF, bias_D = weight_DF.to(a_TF.dtype), bias_D.to(a_TF.dtype)
    if choose("activation", a_TF.device, a_TF.dtype, backend) == "reference":
        return linear(_REFERENCE[kind](a_TF), weight_DF, bias_D)
    from aqqua.kernels.activation import op

    return op.activated_linear(a_TF, weight_DF, bias_D, kind == "swiglu")


def _activate(a_TF: Tensor, kind: Kind, backend: str) -> Tensor:
    _check(a_TF, kind)
    if choose("activation", a_TF.device, a_TF.dtype, backend) == "reference":
        return _REFERENCE[kind](a_TF)
    from aqqua.kernels.activation import op

    return op.activation(a_TF, kind == "swiglu")


def _check(a_TF: Tensor, kind: str) -> None:
    if kind not in _REFERENCE:
        raise ValueError(f"activation must be one of {', '.join(_REFERENCE)}, got {kind!r}; correct it")
    if a_TF.ndim != 2 or not a_TF.is_contiguous():
        raise ValueError(
            f"{kind}: the pre-activation must be contiguous and [T, F], got {list(a_TF.shape)}, strides "
            f"{a_TF.stride()}; make it contiguous"
        )
    if kind == "swiglu" and a_TF.shape[1] % 2:
        raise ValueError(f"swiglu: rows must hold gates and values, got width {a_TF.shape[1]}; make it even")
