"""A run through a real SLURM: its time limit comes, it saves, is queued again, goes on and ends; exactly.

Takes about two minutes: SLURM counts time limits in minutes.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.slurm_here import Slurm, why_not

MOST_S = 240  # of the whole life of the job
# Of training, by one process; it is asked to stop thirty seconds after its start, or a little later.
TRAIN_S = 35
SOME_STEPS = 40
LONGER = (1, 2, 4)  # times that, where the machine got quicker since it was timed and no limit came
END_POLLS = 60  # 30 s
HASTY_POLLS = 8  # 4 s
QUEUED_AGAIN = "queued again to continue"
ENDED = re.compile("^done: |not queued again", re.MULTILINE)
AQQUA = [sys.executable, "-m", "aqqua.cli"]
CONFIG = """\
run: {run}
data: {{path: {dataset}, lanes: 2, pack_tokens: 1024}}
views: {{locals: 2}}
model: {{width: 32, layers: 2, heads: 2, patch_px: 14}}
objective: {{head: {{hidden: 64, bottleneck: 16, prototypes: 64}}}}
train: {{images: {images}, log_every: 1, checkpoint_every: 100000, threads: 1, device: cpu,
  tensorboard: false, deterministic: true}}
"""
LOOPBACK = Path(__file__).with_name("loopback.yaml")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3 * MOST_S),
    pytest.mark.skipif(why_not() is not None, reason=f"no SLURM here: {why_not()}"),
]


@pytest.fixture
def slurm(tmp_path):
    with Slurm(tmp_path / "slurm") as running:
        yield running


def pretrain(config: Path, *overrides: str) -> float:
    """Train here and now; how long it took, seconds."""
    before = time.monotonic()
    subprocess.run(
        [*AQQUA, "pretrain", str(config), *overrides], check=True, capture_output=True, timeout=MOST_S
    )
    return time.monotonic() - before


def images_for(seconds: float, start_s: float, config: Path, folder: Path) -> int:
    """How many images this machine trains on in so long; both of its nodes share it."""
    trained_s = pretrain(config, f"run={folder / 'some'}", f"train.max_steps={SOME_STEPS}") - start_s
    line = json.loads((folder / "some/metrics.jsonl").read_text().splitlines()[-1])
    return int(line["images"] / trained_s * seconds)


def losses(run: Path) -> dict[int, dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def launch(slurm: Slurm, config: Path, *options: str) -> int:
    """Submit; the number of the job."""
    command = [
        *AQQUA,
        "launch",
        str(config),
        "--cluster",
        str(LOOPBACK),
        "--venv",
        sys.prefix,
        "--submit",
        "--json",
    ]
    ran = subprocess.run(
        [*command, *options], env=slurm.environment, cwd=config.parent, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)["job"]


def follow(slurm: Slurm, job: int, log: Path) -> list[str]:
    """States of a job until it ends, each once. A job that was queued again need not wait its two minutes,
    but some seconds: within the second of its first end a node takes its second start for a replay.

    While it is queued again, SLURM shows such a job as failed, for a moment or for many seconds: it has ended
    when it is in no queue and its log says so, or when it stays so.
    """
    seen: list[str] = []
    ended = waits = 0
    deadline = time.monotonic() + MOST_S
    while time.monotonic() < deadline:
        state = slurm.state(job)
        if not seen or seen[-1] != state:
            seen.append(state)
        waits = waits + 1 if state == "PENDING" and slurm.restarts(job) else 0
        if waits == HASTY_POLLS:
            slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")
        under_way = state in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED")
        ended = 0 if under_way else ended + 1
        said = log.read_text() if log.exists() else ""
        if ended and (ENDED.search(said) or ended == END_POLLS):
            return seen
        time.sleep(0.5)
    raise AssertionError(f"job {job} did not end within {MOST_S} s: {seen}")


def test_a_run_outlives_its_time_limit_exactly(slurm, sample_dataset, tmp_path):
    """Two nodes train until SLURM's signal, save, wait in the queue, go on, end: as one process at one go."""
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(run=tmp_path / "limited", dataset=sample_dataset, images=10**9))
    first_s = pretrain(config, f"run={tmp_path / 'one'}", "train.max_steps=1")
    images = images_for(TRAIN_S, first_s, config, tmp_path)
    log, restarts, limited = "", 0, tmp_path
    for longer in LONGER:
        limited = tmp_path / f"limited-{longer}"
        config.write_text(CONFIG.format(run=limited, dataset=sample_dataset, images=longer * images))
        log, restarts = run_with_limit(slurm, config, tmp_path / f"{limited.name}-slurm")
        if restarts:
            break
    assert restarts >= 1, log
    assert log.count(QUEUED_AGAIN) == restarts
    assert log.count("done: ") == 1

    pretrain(config, f"run={tmp_path / 'undisturbed'}")
    assert losses(limited) == losses(tmp_path / "undisturbed")


def run_with_limit(slurm: Slurm, config: Path, folder: Path) -> tuple[str, int]:
    """Log of a job with a minute to run, which must end well, and how often it was queued again."""
    job = launch(slurm, config, "--hours", str(1 / 60), "--nodes", "2")
    file = folder / f"slurm-{job}.log"
    states, log = follow(slurm, job, file), file.read_text()
    assert states[-1] == "COMPLETED", log
    return log, slurm.restarts(job)


FAILING = """\
#!/usr/bin/env bash
mkdir -p "{run}/checkpoints/step-$SLURM_JOB_ID"
((SLURM_PROCID == 0)) || {{ sleep 3; touch "{folder}/late"; }}
exit 3
"""


def test_a_run_that_is_for_a_person_is_so_to_slurm_although_one_rank_says_it_first(slurm, tmp_path):
    """Both say 3, one three seconds later; a checkpoint was written. srun must not make 143 of it."""
    config, venv = tmp_path / "run.yaml", tmp_path / "venv"
    (tmp_path / "data").mkdir()
    config.write_text(CONFIG.format(run=tmp_path / "bad", dataset=tmp_path / "data", images=1))
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/aqqua").write_text(FAILING.format(run=tmp_path / "bad", folder=tmp_path))
    (venv / "bin/aqqua").chmod(0o755)
    job = launch(slurm, config, "--nodes", "2", "--venv", str(venv))
    file = tmp_path / "bad-slurm" / f"slurm-{job}.log"
    states, log = follow(slurm, job, file), file.read_text()
    assert states[-1] == "FAILED", log
    assert (tmp_path / "late").exists(), log
    assert slurm.restarts(job) == 0, log
    assert "exit code 3 is for a person to look at" in log
