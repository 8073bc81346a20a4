"""How close a kernel must come to its specification: value and every gradient, against float64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aqqua.kernels.registration import interpreted

Function = Callable[..., Tensor | tuple[Tensor, ...]]


def results(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, then the gradient of each input for one fixed draw of upstream gradients."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    out = out if isinstance(out, tuple) else (out,)
    generator = torch.Generator().manual_seed(5)
    upstream = [torch.randn(x.shape, generator=generator).bfloat16().to(x.dtype).to(x.device) for x in out]
    return [*(x.detach() for x in out), *torch.autograd.grad(out, leaves, upstream)]


def assert_as_specified(function: Function, inputs: Sequence[Tensor], backend: str = "triton") -> None:
    """The kernel against the reference in float64.

    Float32: assert_close at its defaults. With any 16-bit input: in norm, at most twice as far as the
    reference in the same types is. The interpreter cuts off bfloat16 where a GPU rounds to nearest: there one
    unit in the last place, 2⁻⁷ of the norm, is added.

    Args:
        function: called as function(backend, *inputs).
    """
    truth = results(lambda *x: function("reference", *x), [x.double() for x in inputs])
    got = results(lambda *x: function(backend, *x), inputs)
    if all(x.dtype == torch.float32 for x in inputs):
        torch.testing.assert_close(got, [x.float() for x in truth])
        return
    cut_off = interpreted() and any(x.dtype == torch.bfloat16 for x in inputs)
    floor = 2**-7 if cut_off else 1e-6
    same = results(lambda *x: function("reference", *x), inputs)
    for mine, reference, want in zip(got, same, truth, strict=True):
        assert mine.dtype == reference.dtype
        error, allowed = (x.double().sub(want).norm().item() for x in (mine, reference))
        allowed = 2 * allowed + floor * want.norm().item()
        assert error <= allowed, f"error must be at most {allowed}, got {error}"
