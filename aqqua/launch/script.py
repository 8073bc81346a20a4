"""The sbatch script of a job: plain shell that a person can read, change and submit.

How a run outlives the limit: SLURM sends USR1 to this script some minutes before; the script hands it to the
ranks, which save and stop; then the job is queued again and the same command continues the run. It is queued
again only if a checkpoint was written since it started, however it ended, so a run that never gets on ends.
Exit codes 2 (a mistake of the user) and 3 (numbers that are not finite) are for a person: nothing is tried
again.

A rank that dies takes the others with it: their heartbeats end them within seconds, srun what is left of
them after a minute (`--wait`). Not by `--kill-on-bad-exit`: srun would kill ranks that are about to say 3,
and then tell of its own signal (143) instead; left alone it tells the highest code of all ranks.

Test: tests/launch/test_script.py, tests/launch/test_slurm.py (a real SLURM).
"""

import shlex
from collections.abc import Iterable, Iterator

import aqqua
from aqqua.launch.job import Job, path_override
from aqqua.train.folder import CHECKPOINTS

# First of all: before there is a trap, a signal ends the shell. Until there are ranks it is kept for later.
_SIGNALS = """\
asked_to_stop= cancelled= step=
hand_on() { [[ -z $step ]] || kill "-$1" "$step" 2>/dev/null; }
trap 'asked_to_stop=1; hand_on USR1' USR1
trap 'cancelled=1; hand_on TERM' TERM"""

_TRAIN = """\
newest() { find "$run/{checkpoints}" -maxdepth 1 -name 'step-*' 2>/dev/null | sort | tail -n 1; }
before=$(newest)

code=0
if [[ -z $asked_to_stop$cancelled ]]; then
    srun --kill-on-bad-exit=0 --wait=60 {command} pretrain "$config" "${overrides[@]}" &
    step=$!
    [[ -z $asked_to_stop$cancelled ]] || hand_on TERM  # it came just before
    while wait "$step"; kill -0 "$step" 2>/dev/null; do :; done  # a signal ends `wait`, not the step
    wait "$step"; code=$?
fi

if [[ -n $cancelled ]]; then
    echo "cancelled: $run"
elif ((code == 0)) && [[ -z $asked_to_stop ]]; then
    echo "done: $run"
elif ((code == 2 || code == 3)); then
    echo "exit code $code is for a person to look at; not queued again: $run"
elif [[ $(newest) != "$before" ]]; then
    echo "exit code $code after $(newest); queued again to continue"
    scontrol requeue "$SLURM_JOB_ID"
else
    echo "exit code $code${asked_to_stop:+, stopped before the time limit}, and no checkpoint since the job" \
        "began: it would never get on, so it is not queued again: $run"
    ((code != 0)) || code=1
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
        _SIGNALS,
        _lines(job.site.setup),
        _lines(f"export {name}={shlex.quote(value)}" for name, value in job.site.environment.items()),
        # srun does not take it from sbatch by itself (SLURM 22.05 and newer).
        f"export OMP_NUM_THREADS={job.cpus_per_rank} SRUN_CPUS_PER_TASK={job.cpus_per_rank}",
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
    minutes = max(round(job.hours * 60), 1)
    before_s = min(job.site.signal_before_s, minutes * 30)  # a short job has half of its time to train
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
        "signal": f"B:USR1@{before_s}",
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
    override = path_override("data.path", goal).replace('"', r"\"")  # the shell puts in what goal names
    copy = f'rm -rf "{goal}" "{goal}.part" && cp -r {source} "{goal}.part" && mv "{goal}.part" "{goal}"'
    return _lines(
        [
            f"srun --nodes={job.nodes} --ntasks={job.nodes} --ntasks-per-node=1 \\",
            f"    bash -c {shlex.quote(copy)} || {{ echo 'not every node has a copy of the data'; exit 1; }}",
            f'overrides+=("{override}")',
        ]
    )


def _command(job: Job) -> str:
    if job.container is not None:
        return f"{job.site.container_command} {shlex.quote(str(job.container))} aqqua"
    return shlex.quote(str(job.venv / "bin" / "aqqua")) if job.venv is not None else "aqqua"
