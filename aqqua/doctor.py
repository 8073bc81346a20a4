"""What this machine offers: versions, device, attention backends, optional packages."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import aqqua

OPTIONAL = {
    "lmdb": "the AqQua release form: pip install 'aqqua[release]'",
    "blosc2": "the AqQua release form: pip install 'aqqua[release]'",
    "triton": "GPU kernels: pip install 'aqqua[gpu]'",
}


def examine() -> dict[str, Any]:
    """One line per fact, ready to print or to paste into a report."""
    import torch

    from aqqua.kernels.attention import available, choose
    from aqqua.render import choose as choose_renderer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return {
        "aqqua": aqqua.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "C++ core": "built" if find_spec("aqqua._core") else "missing: pip install . builds it",
        "attention that serves": choose(device, dtype),
        **{f"attention {name}": what for name, what in available().items()},
        "renderer that serves": choose_renderer("auto")[0],
        **{name: _found(name, use) for name, use in OPTIONAL.items()},
    }


def _found(package: str, use: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed; for {use}"
