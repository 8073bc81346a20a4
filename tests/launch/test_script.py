"""The script, run by a real shell with stand-ins for SLURM's commands and for training."""

import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from aqqua.launch.job import Job, Request, plan_job
from aqqua.launch.script import sbatch_script
from aqqua.launch.site import load_site

WAIT_S = 20
# srun runs the command as its one task and hands signals on, as SLURM's does.
SRUN = """#!/usr/bin/env bash
echo "srun $*" >> "$LOG"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$LOG"
"""


@dataclass
class Ran:
    code: int
    said: str
    log: list[str]

    @property
    def queued_again(self) -> bool:
        return "scontrol requeue 4711" in self.log


class Cluster:
    """A folder with a config, an environment whose `aqqua` is a shell script, and SLURM's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_folder = folder / "runs/it's first"
        (folder / "run.yaml").write_text(
            "run: runs/it's first\ndata: {path: data, lanes: 4}\ntrain: {epochs: 1}\n"
        )
        (folder / "data").mkdir()
        (folder / "data" / "dataset.json").write_text("{}")
        (folder / "disk").mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            self.install(folder / "bin" / name, text)
        self.training("exit 0")

    @staticmethod
    def install(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def training(self, body: str) -> None:
        self.install(
            self.folder / "venv/bin/aqqua", f'#!/usr/bin/env bash\necho "aqqua $*" >> "$LOG"\n{body}\n'
        )

    def job(self, **asked) -> Job:
        request = Request(config=Path("run.yaml"), venv=Path("venv"), **asked)
        return plan_job(request, load_site("horeka"), self.folder)

    def start(self, job: Job, **environment: str) -> subprocess.Popen:
        script = self.folder / "job.sbatch"
        script.write_text(sbatch_script(job, "aqqua launch"))
        variables = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "LOG": str(self.folder / "log"),
            "SLURM_JOB_ID": "4711", "TMPDIR": str(self.folder / "disk"),
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", str(script)], env=variables | environment, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def end(self, shell: subprocess.Popen) -> Ran:
        said, _ = shell.communicate(timeout=WAIT_S)
        return Ran(shell.returncode, said, (self.folder / "log").read_text().splitlines())

    def run(self, job: Job, **environment: str) -> Ran:
        return self.end(self.start(job, **environment))

    def wait_for(self, what: Path) -> None:
        deadline = time.monotonic() + WAIT_S
        while not what.exists():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


def a_checkpoint(step: int) -> str:
    return f'mkdir -p "runs/it\'s first/checkpoints/step-{step:012d}"'


def test_a_run_that_ends_is_done(cluster):
    ran = cluster.run(cluster.job())
    assert ran.code == 0
    assert not ran.queued_again
    assert ran.log[-1] == f'aqqua pretrain {cluster.folder / "run.yaml"} run="{cluster.run_folder}"'


def test_ranks_have_the_variables_of_the_cluster(cluster):
    """Where they meet they find out by themselves (aqqua.train.ranks); tests/launch/test_slurm.py."""
    cluster.training('echo "${MASTER_PORT-none} $OMP_NUM_THREADS $NCCL_DEBUG" >> "$LOG"')
    assert cluster.run(cluster.job()).log[-1] == "none 16 WARN"


def test_at_the_limit_the_ranks_save_and_the_job_is_queued_again(cluster):
    """The signal of SLURM goes to the script alone."""
    cluster.training(f"save() {{ sleep 0.3; {a_checkpoint(3)}; exit 0; }}; trap save USR1; touch started\n"
                     "while :; do sleep 0.05; done")  # fmt: skip
    shell = cluster.start(cluster.job())
    cluster.wait_for(cluster.folder / "started")
    shell.send_signal(signal.SIGUSR1)
    ran = cluster.end(shell)
    assert ran.code == 0
    assert ran.queued_again
    assert (cluster.run_folder / "checkpoints/step-000000000003").exists()


@pytest.mark.parametrize(
    ("training", "again"),
    [
        ("exit 1", False),  # it failed before it saved anything
        (f"{a_checkpoint(1)}; exit 1", True),  # a node died under way
        (f"{a_checkpoint(1)}; kill -9 $$", True),
        (f"{a_checkpoint(1)}; exit 2", False),  # a mistake in the config
        (f"{a_checkpoint(1)}; exit 3", False),  # numbers that are not finite
    ],
)
def test_a_failure_is_tried_again_only_after_progress(cluster, training, again):
    cluster.training(training)
    ran = cluster.run(cluster.job())
    assert ran.code != 0
    assert ran.queued_again == again


def test_a_stop_without_a_checkpoint_is_not_queued_again(cluster):
    """A job too short to get anywhere would come back for ever."""
    cluster.training("trap 'exit 0' USR1; touch started\nwhile :; do sleep 0.05; done")
    shell = cluster.start(cluster.job())
    cluster.wait_for(cluster.folder / "started")
    shell.send_signal(signal.SIGUSR1)
    ran = cluster.end(shell)
    assert ran.code == 1, "SLURM would call it completed"
    assert not ran.queued_again
    assert "stopped before the time limit, and no checkpoint since the job began: it would never" in ran.said


def test_a_failure_that_is_not_tried_again_says_why(cluster):
    cluster.training("exit 1")
    assert "exit code 1, and no checkpoint since the job began" in cluster.run(cluster.job()).said
    cluster.training("exit 3")
    assert "exit code 3 is for a person to look at; not queued again" in cluster.run(cluster.job()).said


@pytest.mark.parametrize(
    ("sent", "said"),
    [(signal.SIGUSR1, "stopped before the time limit, and no checkpoint"), (signal.SIGTERM, "cancelled: ")],
)
def test_a_signal_while_the_dataset_is_copied_ends_the_job_before_training(cluster, sent, said):
    slow = '#!/usr/bin/env bash\ntouch copying; sleep 0.5; mkdir -p "$3"\n'
    cluster.install(cluster.folder / "bin/cp", slow)
    shell = cluster.start(cluster.job(stage=True))
    cluster.wait_for(cluster.folder / "copying")
    shell.send_signal(sent)
    ran = cluster.end(shell)
    assert ran.code >= 0, "the signal did not kill the shell"
    assert said in ran.said
    assert not ran.queued_again
    assert not any(line.startswith("aqqua") for line in ran.log)


def test_a_cancelled_job_is_not_queued_again(cluster):
    cluster.training(
        f"save() {{ {a_checkpoint(3)}; exit 0; }}; trap save TERM; touch started\n"
        "while :; do sleep 0.05; done"
    )
    shell = cluster.start(cluster.job())
    cluster.wait_for(cluster.folder / "started")
    shell.send_signal(signal.SIGTERM)
    ran = cluster.end(shell)
    assert not ran.queued_again
    assert "cancelled" in ran.said


def test_a_run_that_always_fails_ends(cluster):
    cluster.training(f"{a_checkpoint(1)}; exit 1")
    assert cluster.run(cluster.job()).queued_again
    (cluster.folder / "log").unlink()
    assert not cluster.run(cluster.job()).queued_again


def test_a_task_of_an_array_has_its_own_overrides(cluster):
    job = cluster.job(sweep=("optim.lr=1e-3,2e-3",))
    ran = cluster.run(job, SLURM_ARRAY_TASK_ID="1")
    run = cluster.run_folder / "1"
    assert ran.log[-1] == f'aqqua pretrain {cluster.folder / "run.yaml"} optim.lr=2e-3 run="{run}"'


def test_the_dataset_is_staged_whole(cluster):
    (cluster.folder / "disk/aqqua-dataset").mkdir()  # left over by an earlier start on this node
    (cluster.folder / "disk/aqqua-dataset/old").touch()
    ran = cluster.run(cluster.job(stage=True))
    staged = cluster.folder / "disk/aqqua-dataset"
    assert ran.log[-1].endswith(f'data.path="{staged}"')
    assert [path.name for path in staged.iterdir()] == ["dataset.json"]


def test_a_disk_that_is_full_stops_before_training(cluster):
    cluster.install(cluster.folder / "bin/cp", "#!/usr/bin/env bash\nexit 1\n")
    ran = cluster.run(cluster.job(stage=True))
    assert ran.code == 1
    assert not any(line.startswith("aqqua") for line in ran.log)


def directives(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_slurm_is_asked_for_what_was_planned(cluster):
    asked = directives(sbatch_script(cluster.job(gpus_per_node=2, hours=1.5, account="hk-1"), "aqqua launch"))
    assert asked == {
        "job-name": "aqqua-it-s-first", "account": "hk-1", "partition": "gpu-h100", "nodes": "1",
        "ntasks-per-node": "2", "gres": "gpu:2", "cpus-per-task": "16", "mem": "373555M", "time": "90",
        "signal": "B:USR1@600", "chdir": str(cluster.folder), "open-mode": "append", "requeue": "",
"output": shlex.quote(f"{cluster.run_folder}-slurm/slurm-%j.log"),
    }  # fmt: skip


def test_a_short_job_is_asked_to_stop_at_half_its_time(cluster):
    script = sbatch_script(cluster.job(hours=0.1), "aqqua launch")
    assert directives(script)["signal"] == "B:USR1@180"
    script = sbatch_script(cluster.job(hours=0.18), "aqqua launch")  # a minute longer than signal_before_s
    assert (directives(script)["time"], directives(script)["signal"]) == ("11", "B:USR1@330")


def test_a_per_cent_sign_in_the_name_of_a_run_is_none_of_slurms_numbers(cluster):
    script = sbatch_script(cluster.job(overrides=("run=runs/50%j",)), "aqqua launch")
    assert directives(script)["output"] == f"{cluster.folder}/runs/50%%j-slurm/slurm-%j.log"


def test_a_container_brings_its_own_aqqua(cluster):
    (cluster.folder / "image.sif").touch()
    request = Request(config=Path("run.yaml"), container=Path("image.sif"))
    script = sbatch_script(plan_job(request, load_site("horeka"), cluster.folder), "aqqua launch")
    image = cluster.folder / "image.sif"
    assert f"srun --kill-on-bad-exit=0 --wait=60 apptainer exec --nv {image} aqqua pretrain" in script


def test_the_readers_comment_cannot_become_a_command(cluster):
    script = sbatch_script(cluster.job(), "aqqua launch x\ntouch stolen")
    assert "\ntouch stolen" not in script
