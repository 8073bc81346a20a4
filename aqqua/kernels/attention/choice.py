"""Which attention serves: chosen by device, dtype and what is installed, in this one place.

Order on a GPU in half precision: flash-attn 4, flash-attn 2, torch's varlen_attn. On the CPU, and in
float32 everywhere, `grouped`: exact, and the varlen kernels know half precision only. Our own kernels
(`triton`) come first on the GPUs of TRITON_FIRST: those on which they were measured to be faster. A
backend that the configuration forces and that cannot serve is an error, never replaced by another.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from aqqua.kernels.registration import interpreted

HALF = (torch.float16, torch.bfloat16)
ON_GPU = ("flash4", "flash2", "torch_varlen")  # in order of preference
BACKENDS = ("triton", *ON_GPU, "grouped", "reference")
# Compute capabilities on which bench/kernels/attention.py showed `triton` faster than all of ON_GPU on G
# and L and no slower on F. Empty: no GPU has run it yet, so it serves where it is forced.
TRITON_FIRST: frozenset[tuple[int, int]] = frozenset()

_PACKAGES = {
    "triton": ("triton", "triton"),
    "flash4": ("flash-attn-4", "flash_attn.cute"),
    "flash2": ("flash-attn", "flash_attn.flash_attn_interface"),
}
# Major compute capabilities on which forward and backward run.
# Source: flash-attn 2 README (Ampere on); flash_attn/cute/interface.py (backward: 8.0, 9, 10, 12).
_CAPABILITIES = {
    "triton": (8, 9, 10, 12),  # those the offline compiler and its ptxas know
    "flash4": (8, 9, 10, 12),
    "flash2": (8, 9, 10, 12),
    "torch_varlen": (8, 9, 10, 12),
}
_MORE_DTYPES = {"triton": (torch.float32,)}


def _installed(name: str) -> str:
    """Version of the package behind a backend.

    Raises:
        RuntimeError: it is not installed, or not importable; the message says what to do.
    """
    if name not in _PACKAGES:
        if name == "torch_varlen" and find_spec("torch.nn.attention.varlen") is None:
            raise RuntimeError(f"needs torch >= 2.10, got {torch.__version__}; install a newer torch")
        return f"torch {torch.__version__}"
    package, module = _PACKAGES[name]
    try:
        found = version(package)
        if find_spec(module) is None:
            raise ModuleNotFoundError(module)
    except (PackageNotFoundError, ImportError) as error:
        raise RuntimeError(f"needs the package {package} ({error}); install it on the GPU host") from error
    return f"{package} {found}"


def _usable(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Version of a backend that can serve device and dtype.

    Raises:
        RuntimeError: it cannot; the message says why and what to do.
    """
    if name == "triton" and interpreted():
        return f"{_installed(name)}, interpreted"
    if name in ("triton", *ON_GPU):
        if device.type != "cuda" or not torch.cuda.is_available():
            raise RuntimeError(f"needs a CUDA device, got {device.type}; use 'auto' or 'grouped'")
        major, minor = torch.cuda.get_device_capability(device)
        if major not in _CAPABILITIES[name]:
            needed = ", ".join(f"{known}.x" for known in _CAPABILITIES[name])
            raise RuntimeError(f"needs compute capability {needed}, got {major}.{minor}; use 'auto'")
        if dtype not in (*HALF, *_MORE_DTYPES.get(name, ())):
            raise RuntimeError(f"needs float16 or bfloat16, got {dtype}; use mixed precision or 'grouped'")
    return _installed(name)


@cache
def choose(device: torch.device, dtype: torch.dtype, wanted: str = "auto") -> str:
    """Name of the attention that serves on this device in this dtype.

    Args:
        device: where q, k, v lie.
        dtype: of q, k, v.
        wanted: a name of BACKENDS, or 'auto'.

    Raises:
        ValueError: wanted is not a known name.
        RuntimeError: wanted cannot serve here; the message says what to do.
    """
    if wanted == "auto":
        ours = device.type == "cuda" and dtype in HALF and _serves("triton", device, dtype)
        first = ours and torch.cuda.get_device_capability(device) in TRITON_FIRST
        return "triton" if first else choose_other(device, dtype)
    if wanted not in BACKENDS:
        raise ValueError(
            f"attention backend must be one of auto, {', '.join(BACKENDS)}, got {wanted!r}; correct it"
        )
    try:
        _usable(wanted, device, dtype)
    except RuntimeError as error:
        raise RuntimeError(f"attention backend {wanted!r} {error}") from error
    return wanted


@cache
def choose_other(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the best of the others: what `triton` hands sequences to that are too long for it."""
    return next((name for name in ON_GPU if _serves(name, device, dtype)), "grouped")


def _serves(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    try:
        _usable(name, device, dtype)
    except RuntimeError:
        return False
    return True


def available(device: torch.device | None = None, dtype: torch.dtype = torch.bfloat16) -> dict[str, str]:
    """What can serve here: for each backend its version, or why it cannot (starts with 'needs')."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = {}
    for name in BACKENDS:
        try:
            report[name] = _usable(name, device, dtype)
        except RuntimeError as error:
            report[name] = str(error)
    return report
