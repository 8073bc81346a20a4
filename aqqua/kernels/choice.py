"""Which implementation of an op serves: our Triton kernel or its PyTorch reference, in this one place.

'auto' takes Triton for the ops of TRITON_FIRST, on a CUDA device where it is installed, for float32,
bfloat16 and float16; else the reference. A forced name that cannot serve is an error, never replaced.
(Attention has more backends and a choice of its own.) Test: tests/kernels/test_choice.py.
"""

from importlib.util import find_spec

import torch

from aqqua.kernels.registration import interpreted

BACKENDS = ("triton", "reference")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # that the kernels read and write
OPS = ("prototype_loss", "residual_norm", "activation", "render", "embed", "segment", "optim")
# Those that bench/gpu.py has shown right and faster on a GPU. Empty: no GPU has run them yet, so they serve
# where they are forced.
TRITON_FIRST: frozenset[str] = frozenset()
_INSTALLED = find_spec("triton") is not None


def choose(op: str, device: torch.device, dtype: torch.dtype, wanted: str = "auto") -> str:
    """Name of the implementation that serves `op` for tensors of this device and dtype.

    Args:
        op: one of OPS.
        wanted: a name of BACKENDS, or 'auto'.

    Raises:
        ValueError: wanted is not a known name.
        RuntimeError: wanted cannot serve here; the message says what to do.
    """
    assert op in OPS, op
    if wanted == "auto":
        serves = device.type == "cuda" and _INSTALLED and dtype in DTYPES
        return "triton" if serves and op in TRITON_FIRST else "reference"
    if wanted not in BACKENDS:
        raise ValueError(
            f"{op} backend must be one of auto, {', '.join(BACKENDS)}, got {wanted!r}; correct it"
        )
    if wanted == "triton":
        _check_triton(op, device, dtype)
    return wanted


def _check_triton(op: str, device: torch.device, dtype: torch.dtype) -> None:
    problem = ""
    if not _INSTALLED:
        problem = "the package triton, got none; install it or use 'auto'"
    elif device.type != "cuda" and not interpreted():
        problem = f"a CUDA device, got {device.type}; use 'auto'"
    elif dtype not in DTYPES:
        problem = f"float32, bfloat16 or float16, got {dtype}; use 'auto'"
    if problem:
        raise RuntimeError(f"{op} backend 'triton' needs {problem}")
