"""Whether DALI can be had is an answer, found without importing it."""

import subprocess
import sys

import pytest

import dali_pipelines


def test_neither_package_imports_dali_or_nvidia_by_itself():
    code = "import sys, aqqua, dali_pipelines; sys.exit(any(m.startswith('nvidia') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_platform_without_dali(monkeypatch):
    monkeypatch.setattr(dali_pipelines.platform, "machine", lambda: "aarch64")
    assert dali_pipelines.unusable() == f"DALI is for Linux on x86-64, this is {sys.platform} on aarch64"


@pytest.mark.parametrize("missing", ["the package", "all of NVIDIA"])
def test_what_is_not_installed(monkeypatch, missing):
    def find(_name: str) -> None:
        if missing == "all of NVIDIA":
            raise ModuleNotFoundError("No module named 'nvidia'")

    monkeypatch.setattr(dali_pipelines, "find_spec", find)
    monkeypatch.setattr(dali_pipelines.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(dali_pipelines.sys, "platform", "linux")
    assert dali_pipelines.unusable() == "DALI is not installed: pip install 'aqqua[gpu]'"


def test_what_is_installed_has_a_version():
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")
    assert dali_pipelines.unusable() is None
    assert dali_pipelines.dali_version()[0].isdigit()
