"""Builds aqqua._core from csrc/. Everything else stands in pyproject.toml."""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

setup(
    ext_modules=[
        Pybind11Extension(
            "aqqua._core",
            sorted(str(path) for path in Path("csrc").glob("*.cpp")),
            depends=sorted(str(path) for path in Path("csrc").glob("*.hpp")),
            cxx_std=17,
            # -ffp-contract=off: no fused multiply-add, so that results equal the Python references.
            extra_compile_args=["-O3", "-ffp-contract=off", "-Wall", "-Wextra"],
        )
    ]
)
