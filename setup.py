"""Builds aqqua._core from csrc/ and takes configs/ along. Everything else stands in pyproject.toml."""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPython(build_py):
    """Also installs the runs of configs/ as aqqua/configs; an editable install finds them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            goal = Path(self.build_lib, "aqqua", "configs")
            goal.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path("configs").glob("*.yaml")):
                self.copy_file(str(path), str(goal / path.name))


setup(
    cmdclass={"build_py": BuildPython},
    ext_modules=[
        Pybind11Extension(
            "aqqua._core",
            sorted(str(path) for path in Path("csrc").glob("*.cpp")),
            depends=sorted(str(path) for path in Path("csrc").glob("*.hpp")),
            cxx_std=17,
            # -ffp-contract=off: no fused multiply-add, so that results equal the Python references.
            # No errno and no floating-point traps, which nobody reads: they keep loops from vectorising.
            extra_compile_args=[
                "-O3",
                "-ffp-contract=off",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-Wall",
                "-Wextra",
            ],
        )
    ],
)
