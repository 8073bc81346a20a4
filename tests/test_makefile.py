"""`make demo` never removes what a demo did not make, and takes torch from where it is told to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile and an environment that seems installed, whose tools only write down
    what they are asked."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("bin/python", "bin/aqqua", "bin/pip"):
        tool = tmp_path / ".venv" / name
        tool.write_text('#!/bin/sh\necho "$(basename "$0") $*" >> said.txt\n')
        tool.chmod(0o755)
    for name in (".torch", ".runtime", ".dev"):
        (tmp_path / ".venv" / name).touch()
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=plain, capture_output=True, text=True, timeout=30
    )


def test_a_folder_that_is_no_demo_is_refused_and_kept(checkout):
    (checkout / "thesis").mkdir()
    (checkout / "thesis" / "run").write_text("three years")
    for target in (["demo", "DEMO=thesis"], ["demo", "DEMO=."], ["demo", "DEMO="]):
        done = make(checkout, *target)
        assert done.returncode != 0
        assert "make demo: DEMO must" in done.stderr
    make(checkout, "clean", "DEMO=thesis", "VENV=thesis")
    assert (checkout / "thesis" / "run").read_text() == "three years"
    assert not (checkout / "said.txt").exists()


def test_a_demo_is_made_again_in_its_own_folder(checkout):
    name = "DEMO=a demo"
    assert make(checkout, "demo", name).returncode == 0
    (checkout / "a demo" / "ocean").mkdir()
    (checkout / "a demo" / "my notes").write_text("mine")
    done = make(checkout, "demo", name)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (checkout / "a demo").iterdir()) == [".aqqua-demo", "my notes"]
    verbs = [line.split()[1] for line in (checkout / "said.txt").read_text().splitlines()]
    assert verbs == ["sample", "ingest", "pretrain", "evaluate", "embed"] * 2
    make(checkout, "clean", name)
    assert not (checkout / "a demo").exists()


def test_torch_comes_first_and_from_where_it_is_told(checkout):
    for name in (".torch", ".runtime", ".dev"):
        (checkout / ".venv" / name).unlink()
    assert make(checkout, "test", "TORCH_ARGS=--pre --no-cache-dir").returncode == 0
    said = [line for line in (checkout / "said.txt").read_text().splitlines() if "install" in line]
    assert said[0].endswith("-c constraints.txt --pre --no-cache-dir torch")
    assert said[1].endswith("-e .")
    assert said[2].endswith("--pre --no-cache-dir torchvision")
    (checkout / ".venv/.torch").unlink()
    (checkout / "said.txt").unlink()
    assert make(checkout, ".venv/.torch").returncode == 0
    assert "--pre" not in (checkout / "said.txt").read_text()


def test_benchmarks_and_their_gate(checkout):
    assert make(checkout, "bench", "BENCH_ARGS=--quick --only gate.py").returncode == 0
    assert make(checkout, "bench-gate").returncode == 0
    said = (checkout / "said.txt").read_text().splitlines()
    assert said == ["python bench/all.py --quick --only gate.py", "python bench/gate.py"]
