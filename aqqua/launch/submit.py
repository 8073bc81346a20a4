"""Hand a script to SLURM. Test: tests/launch/test_submit.py."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from aqqua.launch.job import Job

SCRIPT = "job.sbatch"
WAIT_S = 120  # for sbatch; a busy controller takes its time
_JOB_ID = re.compile(r"(\d+)(;.*)?")


def write_script(script: str, path: Path) -> Path:
    """Write a script whole or not at all, so that a job that is queued again never reads half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(script, encoding="utf-8")
    partial.replace(path)
    return path


def submit(job: Job, script: str) -> tuple[Path, int]:
    """Write the script beside the job's log and queue it; of a job that is refused nothing stays.

    Returns:
        Where the script lies, and the number SLURM gave the job.

    Raises:
        RuntimeError: there is no SLURM here, or it refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise RuntimeError(
            "launch: --submit needs sbatch, got none on this machine; leave --submit out and take the script "
            "to a login node of the cluster"
        )
    path = job.log_folder / SCRIPT
    before = path.read_text(encoding="utf-8") if path.exists() else None
    new = [folder for folder in path.parents if not folder.exists()]
    write_script(script, path)
    ran = subprocess.run(
        ["sbatch", "--parsable", str(path)], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    answer = _JOB_ID.fullmatch(ran.stdout.strip())
    if ran.returncode or answer is None:
        _take_back(path, before, new)
        said = " ".join((ran.stderr or ran.stdout).split())
        raise RuntimeError(
            f"launch: sbatch must take the job, got exit code {ran.returncode}: {said}; ask for something "
            "else, or write the script with --out and change it"
        )
    return path, int(answer[1])


def _take_back(path: Path, before: str | None, new: list[Path]) -> None:
    """As if nothing had been written: an earlier job's script again, or no script and no folders for it."""
    if before is not None:
        write_script(before, path)
        return
    path.unlink()
    for folder in new:
        folder.rmdir()
