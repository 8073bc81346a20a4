"""NVIDIA DALI as a data path: original files decoded, and whole plans rendered, by DALI's operators.

`graph` and `augment` are pure graph functions, `decode` makes files into pages, `render` packs into patch
rows, `iterator` feeds both in the order of the plan. Chosen by data.backend=dali and data.renderer=dali
(aqqua.train.backend); docs/dali.md says when that pays. The modules import DALI, this one does not: whether
it can be had is an answer, never an error. Tests: tests/dali_pipelines.
"""

import platform
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec

PACKAGE = "nvidia-dali-cuda130"
INSTALL = "pip install 'aqqua[gpu]'"


def unusable() -> str | None:
    """Why DALI cannot serve here; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"DALI is for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    try:
        found = find_spec("nvidia.dali")
    except ModuleNotFoundError:  # of the package that it would lie in
        found = None
    return None if found else f"DALI is not installed: {INSTALL}"


def dali_version() -> str:
    """Of the installed distribution, whatever CUDA it was built for."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        names = (one for one in distributions() if (one.name or "").startswith("nvidia-dali"))
        return next((one.version for one in names), "of unknown version")
