"""The verb that puts a run on a cluster: launch."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqqua.cli.training import config_file
from aqqua.cli.verb import add_verb, answer

if TYPE_CHECKING:
    from aqqua.launch.job import Job


def add_launch(verbs: Any) -> None:
    """Declare `aqqua launch`."""
    parser = add_verb(verbs, "launch", _run_launch,
                      "a SLURM script of a pretraining run, which it continues until it is done",
                      "aqqua launch configs/isiis_s.yaml --cluster horeka --gpus-per-node 2 --submit "
                      "data.path=data/isiis")  # fmt: skip
    parser.add_argument("config", type=Path, help="YAML file, or the name of one that came with aqqua")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as of aqqua pretrain")
    parser.add_argument("--cluster", required=True, help="horeka, or a YAML file with the facts of another")
    parser.add_argument("--partition", help="(default: the cluster's)")
    parser.add_argument("--nodes", type=int, default=1, help="(default 1)")
    parser.add_argument("--gpus-per-node", type=int, help="(default: all of a node)")
    parser.add_argument("--hours", type=float, help="limit of the job (default: the partition's)")
    parser.add_argument("--account", help="whom SLURM bills (default: yours)")
    parser.add_argument("--venv", type=Path, help="environment with aqqua (default: aqqua on the PATH)")
    parser.add_argument("--container", type=Path, help="image with aqqua, in place of an environment")
    parser.add_argument("--stage", action="store_true", help="first copy the dataset to the nodes' own disks")
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="key=v,v,...",
        help="one run for each value, as a job array; given twice, for each combination; values are YAML, "
        "lists too: key=[1,2],[3,4]",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the script to this file (default: print it)")
    parser.add_argument("--submit", action="store_true", help="queue it; the script is kept with the run")


def _run_launch(parsed: argparse.Namespace) -> int:
    from aqqua.launch.job import Request, plan_job
    from aqqua.launch.script import sbatch_script
    from aqqua.launch.site import load_site
    from aqqua.launch.submit import submit, write_script

    if parsed.submit and parsed.out:
        raise ValueError("launch: a script must go to one place, got --out and --submit; give one")
    asked = {name: getattr(parsed, name) for name in Request.__dataclass_fields__}
    asked |= {"config": config_file(parsed.config), "overrides": tuple(parsed.overrides)}
    request = Request(**asked | {"sweep": tuple(parsed.sweep)})
    job = plan_job(request, load_site(parsed.cluster), Path.cwd())
    script = sbatch_script(job, f"aqqua {parsed.command}")
    values = _values(job)
    if not (parsed.submit or parsed.out or parsed.json):
        sys.stdout.write(script)
        sys.stderr.write("".join(f"# {line}\n" for line in _lines(job)))
        return 0
    if parsed.submit:
        path, values["job"] = submit(job, script)
    elif parsed.out:
        path = write_script(script, parsed.out)
        job.log_folder.mkdir(parents=True, exist_ok=True)
    values |= {"script": str(path)} if parsed.submit or parsed.out else {"text": script}
    queued = [f"job {values['job']} queued: {path}"] if parsed.submit else [f"script: {parsed.out}"]
    answer(parsed, values, [*queued, *_lines(job)])
    return 0


def _values(job: "Job") -> dict[str, Any]:
    return {
        "cluster": job.site.name, "partition": job.partition_name, "nodes": job.nodes,
        "ranks_per_node": job.ranks_per_node, "hours": job.hours, "gpu_hours": job.gpu_hours,
        "runs": [str(run.folder) for run in job.runs], "confirm": job.site.confirm,
    }  # fmt: skip


def _lines(job: "Job") -> list[str]:
    """What a person wants to know before it costs anything."""
    where = f"{job.site.name}, {job.partition_name}"
    ranks = f"{job.nodes} × {job.ranks_per_node} {job.partition.gpu or 'ranks on the CPU'}"
    return [
        f"{where}: {ranks}, up to {job.hours:g} h each time; runs: {len(job.runs)}",
        f"GPU-hours until the first limit: at most {job.gpu_hours:,.0f}; a run goes on until it is done",
        *(f"confirm on site: {what}" for what in job.site.confirm),
    ]
