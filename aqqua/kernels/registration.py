"""How a Triton kernel becomes a torch operator, on a GPU and in Triton's interpreter.

On a GPU `torch.library.triton_op` lets torch.compile look into the operator and see the launches. The
interpreter's kernels cannot be traced; there the operator is an opaque `custom_op` whose fake form runs
the same Python and leaves the launches out, so that `torch.library.opcheck` and torch.compile test
shapes, dtypes, strides and the autograd formula without a GPU.
Test: tests/kernels/test_registration.py.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on CPU tensors (TRITON_INTERPRET=1 at its import)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def operator(name: str) -> Callable[[Callable], Any]:
    """Register a function of tensors that launches kernels as torch.ops.aqqua.<name>.

    The function makes its outputs new and changes no input; it must not look at values of tensors.
    """

    def register(function: Callable) -> Any:
        if not interpreted():
            return torch.library.triton_op(f"aqqua::{name}", function, mutates_args=())
        registered = torch.library.custom_op(f"aqqua::{name}", function, mutates_args=())
        registered.register_fake(function)
        return registered

    return register


def launch(kernel: Any, grid: tuple, *arguments: Any, **options: Any) -> None:
    """Run a @triton.jit kernel over a grid, inside a registered operator.

    Args:
        options: constexpr arguments and num_warps, num_stages.
    """
    if not interpreted():
        with on_device_of(arguments):
            torch.library.wrap_triton(kernel)[grid](*arguments, **options)
    elif not any(isinstance(argument, FakeTensor) for argument in arguments if isinstance(argument, Tensor)):
        kernel[grid](*arguments, **options)


def on_device_of(arguments: Sequence[object]) -> AbstractContextManager[object]:
    """Triton launches on the current GPU; this makes it that of the first tensor among the arguments."""
    device = next((x.device for x in arguments if isinstance(x, Tensor)), None)
    if device is None or device.type != "cuda" or device.index in (None, torch.cuda.current_device()):
        return nullcontext()
    return torch.cuda.device(device)
