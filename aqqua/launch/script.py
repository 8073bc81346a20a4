"""The sbatch script of a job: plain shell that a person can read, change and submit.

How a run outlives the limit: SLURM sends USR1 to this script some minutes before; the script hands it to the
ranks, which save and stop; then the job is queued again and the same command continues the run. A rank that
dies takes the others with it (`--kill-on-bad-exit`); the job is queued again only if a checkpoint was written
since it started, so a run that always fails ends. Exit codes 2 (a mistake of the user) and 3 (numbers that
are not finite) are for a person: nothing is tried again.

Test: tests/launch/test_script.py, tests/launch/test_slurm.py (a real SLURM).
"""

import shlex
from collections.abc import Iterable, Iterator

import aqqua
from aqqua.launch.job import Job
from aqqua.train.folder import CHECKPOINTS

# Where the ranks meet: the first node, unless the site says otherwise; a port that jobs hardly share.
_MEET = """\
MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT"""

_TRAIN = """\
newest() { find "$run/{checkpoints}" -maxdepth 1 -name 'step-*' 2>/dev/null | sort | tail -n 1; }
before=$(newest)

asked_to_stop= cancelled=
on_limit() { asked_to_stop=1; kill -USR1 "$step"; }
trap on_limit USR1
trap 'cancelled=1; kill -TERM "$step"' TERM
srun --kill-on-bad-exit=1 --wait=60 {command} pretrain "$config" "${overrides[@]}" &
step=$!
while wait "$step"; kill -0 "$step" 2>/dev/null; do :; done  # a signal ends `wait`, not the step
wait "$step"; code=$?

if [[ -n $cancelled ]]; then
    echo "cancelled: $run"
elif ((code == 0)) && [[ -z $asked_to_stop ]]; then
    echo "done: $run"
elif ((code == 0)) || { ((code != 2 && code != 3)) && [[ $(newest) != "$before" ]]; }; then
    echo "exit code $code after $(newest); queued again to continue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def sbatch_script(job: Job, command: str) -> str:
    """The whole script.

    Args:
        job: what was asked for, checked.
        command: by which it was asked for, for the reader.
    """
    parts = [
        _head(job, command),
        "set -u",
        _lines(job.site.setup),
        _lines(f"export {name}={shlex.quote(value)}" for name, value in job.site.environment.items()),
        # srun does not take it from sbatch by itself (SLURM 22.05 and newer).
        f"export OMP_NUM_THREADS={job.cpus_per_rank} SRUN_CPUS_PER_TASK={job.cpus_per_rank}",
        _MEET,
        _which_run(job),
        _stage(job) if job.stage else "",
        _TRAIN.replace("{checkpoints}", CHECKPOINTS).replace("{command}", _command(job)),
    ]
    return "\n\n".join(part for part in parts if part)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _head(job: Job, command: str) -> str:
    array = len(job.runs) > 1
    folder = str(job.log_folder).replace("%", "%%")  # SLURM puts numbers in place of %j and its kin
    minutes, before_s = max(round(job.hours * 60), 1), job.site.signal_before_s
    options = {
        "job-name": job.name,
        "account": job.account,
        "partition": job.partition_name,
        "nodes": job.nodes,
        "ntasks-per-node": job.ranks_per_node,
        "gres": f"gpu:{job.ranks_per_node}" if job.partition.gpus_per_node else None,
        "cpus-per-task": job.cpus_per_rank,
        "mem": f"{job.memory_mib_per_node}M",
        "time": minutes,
        "signal": f"B:USR1@{before_s if before_s < minutes * 60 else minutes * 30}",
        "array": f"0-{len(job.runs) - 1}" if array else None,
        "chdir": job.home,
        "output": f"{folder}/slurm-{'%A_%a' if array else '%j'}.log",
        "open-mode": "append",
    }
    lines = [
        f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None
    ]
    return _lines(
        [
            "#!/usr/bin/env bash",
            f"# Made by aqqua {aqqua.__version__}: {' '.join(command.split())}",
            f"# Submit: mkdir -p {shlex.quote(str(job.log_folder))} && sbatch THIS_FILE",
            *lines,
            "#SBATCH --requeue",
        ]
    )


def _which_run(job: Job) -> str:
    """Config, overrides and folder of the run: of an array, of this task of it."""
    lines = [f"config={shlex.quote(str(job.config))}"]
    if len(job.runs) == 1:
        return _lines([*lines, *_run(job, 0)])
    cases = [
        line
        for k in range(len(job.runs))
        for line in (f"{k})", *(f"    {of}" for of in _run(job, k)), "    ;;")
    ]
    return _lines([*lines, 'case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"])


def _run(job: Job, k: int) -> Iterator[str]:
    run = job.runs[k]
    yield f"run={shlex.quote(str(run.folder))}"
    yield f"overrides=({' '.join(shlex.quote(word) for word in run.overrides)})"


def _stage(job: Job) -> str:
    """The dataset on every node's own disk, whole or not at all."""
    goal = f"{job.site.node_disk}/aqqua-dataset"
    source = shlex.quote(str(job.dataset))
    copy = f'rm -rf "{goal}" "{goal}.part" && cp -r {source} "{goal}.part" && mv "{goal}.part" "{goal}"'
    return _lines(
        [
            f"srun --nodes={job.nodes} --ntasks={job.nodes} --ntasks-per-node=1 \\",
            f"    bash -c {shlex.quote(copy)} || exit 1",
            f'overrides+=("data.path={goal}")',
        ]
    )


def _command(job: Job) -> str:
    if job.container is not None:
        return f"{job.site.container_command} {shlex.quote(str(job.container))} aqqua"
    return shlex.quote(str(job.venv / "bin" / "aqqua")) if job.venv is not None else "aqqua"
