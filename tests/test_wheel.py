"""What is installed: the built core, the types, the registry and the runs; what is needed to build it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    "aqqua",
    "dali_pipelines",
    "csrc",
    "configs",
    *("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"),
)
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean copy of the sources: a build leaves folders behind."""
    for name in (*NEEDED, "constraints.txt"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.so", "__pycache__", ".*_cache")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_wheel_holds_all_that_runs(checkout):
    build = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "out"]
    done = subprocess.run(build, cwd=checkout, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = (checkout / "out").glob("aqqua-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = {"instruments/registry.yaml", "launch/sites/horeka.yaml", "cost/facts.yaml"}
    assert {"aqqua/py.typed", "aqqua/_core.pyi", *(f"aqqua/{name}" for name in data)} <= names
    assert {f"aqqua/configs/{name}" for name in CONFIGS} <= names
    assert sum(name.startswith("aqqua/_core.") and name.endswith(".so") for name in names) == 1
    for package in ("aqqua", "dali_pipelines"):
        assert {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")} <= names
    assert all(name.startswith(("aqqua/", "aqqua-", "dali_pipelines/")) for name in names)


def test_the_source_distribution_holds_all_that_builds(checkout):
    build = "from setuptools import build_meta; build_meta.build_sdist('out')"
    done = subprocess.run([sys.executable, "-c", build], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (packed,) = (checkout / "out").glob("aqqua-*.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").iterdir()} <= names
    assert {f"configs/{name}" for name in CONFIGS} <= names
    assert {"setup.py", "pyproject.toml", "aqqua/py.typed", "aqqua/instruments/registry.yaml"} <= names
