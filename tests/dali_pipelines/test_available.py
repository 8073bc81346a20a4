"""Whether DALI can be had is an answer, found without importing it."""

import re
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


def test_a_trial_says_what_fails(monkeypatch, tmp_path):
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")
    assert dali_pipelines.trial() is None
    for code, what in (
        ("import time; time.sleep(60)", r"DALI decoded no picture in 0\.3 s"),
        ("raise SystemExit('no such library')", r"failed to decode a picture \(exit status 1\): no such lib"),
        ("import os; os.abort()", r"exit status -6"),
    ):
        (tmp_path / "trial.py").write_text(code)
        monkeypatch.setattr(dali_pipelines, "_TRIAL", tmp_path / "trial.py")
        limit_s = 0.3 if "sleep" in code else dali_pipelines.TRIAL_S
        assert re.search(what, dali_pipelines.trial(limit_s=limit_s) or "")
