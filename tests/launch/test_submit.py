"""Handing a script to SLURM, with a stand-in for sbatch; and the verb as users call it."""

import json
from pathlib import Path

import pytest

from aqqua.cli import main
from aqqua.launch.submit import SCRIPT

SBATCH = '#!/bin/sh\necho "$@" > "$LOG"\n{then}\n'


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    (tmp_path / "run.yaml").write_text("run: runs/a\ndata: {path: data, lanes: 8}\ntrain: {epochs: 1}\n")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch but the stand-in
    return tmp_path


def sbatch(home: Path, then: str) -> None:
    (home / "sbatch").write_text(SBATCH.format(then=then))
    (home / "sbatch").chmod(0o755)


LAUNCH = ["launch", "run.yaml", "--cluster", "horeka"]


@pytest.mark.parametrize("answer", ["123", "123;horeka"])
def test_a_submitted_job_is_named_and_its_script_kept(home, capsys, answer):
    sbatch(home, f"echo '{answer}'")
    assert main([*LAUNCH, "--submit", "--json", "--nodes", "2"]) == 0
    values = json.loads(capsys.readouterr().out)
    script = home / "runs/a-slurm" / SCRIPT
    assert (values["job"], values["script"], values["gpu_hours"]) == (123, str(script), 384)
    assert (home / "log").read_text().split() == ["--parsable", str(script)]
    assert "#SBATCH --nodes=2" in script.read_text()


def test_what_slurm_says_reaches_the_user(home, capsys):
    sbatch(home, "echo 'sbatch: error: Invalid account' >&2; exit 1")
    assert main([*LAUNCH, "--submit"]) == 1
    assert "got exit code 1: sbatch: error: Invalid account" in capsys.readouterr().err
    assert not (home / "runs").exists(), "nothing stays of a job that is refused"


@pytest.mark.usefixtures("capsys")
def test_a_refused_job_leaves_the_script_of_the_one_before(home):
    sbatch(home, "echo 1")
    assert main([*LAUNCH, "--submit", "--nodes", "2"]) == 0
    sbatch(home, "exit 1")
    assert main([*LAUNCH, "--submit", "--nodes", "1"]) == 1
    assert "#SBATCH --nodes=2" in (home / "runs/a-slurm" / SCRIPT).read_text()


def test_without_slurm_the_script_can_still_be_had(home, capsys):
    assert main([*LAUNCH, "--submit"]) == 1
    assert "--submit needs sbatch, got none on this machine" in capsys.readouterr().err
    assert main([*LAUNCH, "--out", "job.sbatch"]) == 0
    assert (home / "job.sbatch").read_text().startswith("#!/usr/bin/env bash\n")
    assert (home / "runs/a-slurm").is_dir(), "SLURM writes its log there before training begins"


def test_a_printed_script_is_nothing_but_a_script(home, capsys):
    assert main([*LAUNCH, "data.lanes=4"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("#!/usr/bin/env bash\n# Made by aqqua")
    assert "data.lanes=4" in printed.out
    assert "1 × 4 H100, up to 48 h each time" in printed.err
    assert list(home.glob("runs*")) == []


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--submit", "--out", "x"], "got --out and --submit"),
        (["--nodes", "400"], "--nodes must be above 0 and at most 21 in gpu-h100, got 400"),
        (["data.lanse=4"], "data.lanse"),
    ],
)
def test_mistakes_are_one_line(capsys, options, message):
    assert main([*LAUNCH, *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
