"""Packages that only some outputs need, imported when asked for."""

from importlib import import_module
from typing import Any

# A package by its name in an import -> its name for pip, and the extra of aqqua that brings it.
_KNOWN = {
    "h5py": ("h5py", "publish"),
    "httpx": ("httpx", "publish"),
    "onnx": ("onnx", "publish"),
    "onnxscript": ("onnxscript", "publish"),
    "netCDF4": ("netcdf4", "publish"),
    "cartopy": ("cartopy", "publish"),
    "cartopy.crs": ("cartopy", "publish"),
    "cartopy.io.shapereader": ("cartopy", "publish"),
    "matplotlib.figure": ("matplotlib", "publish"),
}


def needed(module: str, who: str) -> Any:
    """A module of an optional package.

    Raises:
        RuntimeError: the package is not installed; the message says how to.
    """
    package, extra = _KNOWN[module]
    try:
        return import_module(module)
    except ImportError as error:
        raise RuntimeError(
            f"{who} needs the package {package}, got none; pip install 'aqqua[{extra}]'"
        ) from error
