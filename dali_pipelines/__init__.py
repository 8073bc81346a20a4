"""NVIDIA DALI as a data path: original files decoded, and whole plans rendered, by DALI's operators.

`graph` and `augment` are pure graph functions, `decode` makes files into pages, `render` packs into patch
rows, `iterator` feeds both in the order of the plan. Chosen by data.backend=dali and data.renderer=dali
(aqqua.train.backend); docs/dali.md says when that pays. The modules import DALI, this one does not: whether
it can be had is an answer, never an error; `trial` lets it decode a picture in a process of its own.
Tests: tests/dali_pipelines.
"""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "nvidia-dali-cuda130"
INSTALL = "pip install 'aqqua[gpu]'"
TRIAL_S = 20.0  # takes about one
_TRIAL = Path(__file__).with_name("first_picture.py")


def unusable() -> str | None:
    """Why DALI cannot serve here; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"DALI is for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    try:
        found = find_spec("nvidia.dali")
    except ModuleNotFoundError:  # of the package that it would lie in
        found = None
    return None if found else f"DALI is not installed: {INSTALL}"


def trial(device: int | None = None, limit_s: float = TRIAL_S) -> str | None:
    """What fails when DALI decodes one small picture; None if nothing does.

    In a process of its own: a DALI that does not fit its driver or its libraries may crash, or hang.

    Args:
        device: number of a CUDA device to decode on; None: the CPU.
        limit_s: longest time that it may take.
    """
    command = [sys.executable, "-P", str(_TRIAL), *([] if device is None else [str(device)])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"DALI decoded no picture in {limit_s:g} s"
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
    return f"DALI failed to decode a picture (exit status {done.returncode}): {said}"


def dali_version() -> str:
    """Of the installed distribution, whatever CUDA it was built for."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        names = (one for one in distributions() if (one.name or "").startswith("nvidia-dali"))
        return next((one.version for one in names), "of unknown version")
