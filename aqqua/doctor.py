"""What this machine offers: versions, device, attention backends, optional packages."""

import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import aqqua

BUILT = "built"
OPTIONAL = {
    "lmdb": "the AqQua release form: pip install 'aqqua[release]'",
    "blosc2": "the AqQua release form: pip install 'aqqua[release]'",
    "triton": "GPU kernels: pip install 'aqqua[gpu]'",
    "deepspeed": "train.engine=zero: pip install 'aqqua[cluster]'",
}


def examine() -> dict[str, Any]:
    """One line per fact, ready to print or to paste into a report."""
    import torch

    from aqqua.kernels.attention import available, choose

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    core = _core()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return {
        "aqqua": aqqua.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "C++ core": core,
        "attention that serves": choose(device, dtype),
        **{f"attention {name}": what for name, what in available().items()},
        "renderer that serves": _renderer(device) if core == BUILT else "none: it needs the C++ core",
        "DALI": _dali(device),
        "kernels that serve": ", ".join(_kernels(device, dtype)) or "none: PyTorch's operators do",
        **{name: _found(name, use) for name, use in OPTIONAL.items()},
    }


def _kernels(device: Any, dtype: Any) -> list[str]:
    """Ops whose Triton kernels a run takes by itself here."""
    from aqqua.kernels.choice import OPS, choose

    return [op for op in OPS if choose(op, device, dtype) == "triton"]


def _core() -> str:
    """Looked at before anything that imports it, so that its absence is an answer and not an error."""
    if find_spec("aqqua._core") is None:
        return "missing: pip install . builds it"
    try:
        import_module("aqqua._core")
    except ImportError as error:  # built for another Python, or a library it needs is gone
        return f"cannot be loaded ({error}): pip install --force-reinstall . builds it anew"
    return BUILT


def _renderer(device: Any) -> str:
    from aqqua.render import choose

    return choose("auto", device)[0]


def _dali(device: Any) -> str:
    """Whether data.backend=dali can be had, and what it would do here. One picture is decoded: a second."""
    from dali_pipelines import dali_version, trial, unusable

    if why := unusable() or trial(0 if device.type == "cuda" else None):
        return f"none: {why}"
    what = "JPEG on the GPU, PNG and TIFF on the CPU" if device.type == "cuda" else "on the CPU alone: no GPU"
    return f"{dali_version()}, decodes {what}; renders on the CPU"


def _found(package: str, use: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed; for {use}"
