"""A pretraining run as a job of a cluster: what is asked for, checked against what there is.

Test: tests/launch/test_job.py.
"""

import itertools
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from aqqua.config import load_config
from aqqua.launch.site import Partition, Site
from aqqua.train.settings import PretrainConfig

MOST_RUNS = 1000  # of a sweep; MaxArraySize of SLURM is 1001 unless the site raised it
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Request:
    """What a user asks for; None is the most that the partition gives."""

    config: Path
    overrides: tuple[str, ...] = ()
    partition: str | None = None
    nodes: int = 1
    gpus_per_node: int | None = None
    hours: float | None = None
    account: str | None = None
    venv: Path | None = None  # environment with aqqua
    container: Path | None = None  # image with aqqua, instead of a venv
    stage: bool = False  # copy the dataset to the nodes' own disks first
    sweep: tuple[str, ...] = ()  # key=v1,v2,...: one run for each combination


@dataclass(frozen=True)
class RunOf:
    """One run: where it lies, and what it is started with."""

    folder: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A checked request. All paths are absolute, without `..`."""

    site: Site
    partition_name: str
    partition: Partition
    nodes: int
    ranks_per_node: int
    hours: float
    config: Path
    runs: tuple[RunOf, ...]  # more than one: a job array
    dataset: Path
    home: Path  # where the job starts, and relative paths count from
    account: str | None
    venv: Path | None
    container: Path | None
    stage: bool

    @property
    def name(self) -> str:
        return _NAME.sub("-", f"aqqua-{self.runs[0].folder.name}" if len(self.runs) == 1 else "aqqua-sweep")

    @property
    def log_folder(self) -> Path:
        """Of script and output; beside the run's own folder, or that of the sweep, which must be new."""
        whole = self.runs[0].folder if len(self.runs) == 1 else self.runs[0].folder.parent
        return whole.with_name(f"{whole.name}-slurm")

    @property
    def cpus_per_rank(self) -> int:
        return max(self.partition.cpus_per_node // self.partition.ranks_per_node, 1)

    @property
    def memory_mib_per_node(self) -> int:
        """In proportion to the GPUs: on shared nodes the rest is another's."""
        share = self.site.memory_share * self.ranks_per_node / self.partition.ranks_per_node
        return int(self.partition.memory_gib_per_node * 1024 * share)

    @property
    def gpu_hours(self) -> float:
        """Most that one pass over all runs can cost, before any is continued."""
        gpus = self.ranks_per_node if self.partition.gpus_per_node else 0
        return self.nodes * gpus * self.hours * len(self.runs)


def plan_job(request: Request, site: Site, home: Path) -> Job:
    """Check a request against the cluster and the config, before anything waits in a queue.

    Args:
        home: folder that relative paths are meant from.

    Raises:
        ValueError: the cluster does not give so much, the config does not fit, or a path is not there.
    """
    name = request.partition or site.default_partition
    partition = site.partition(name)
    ranks = _at_most("--gpus-per-node", request.gpus_per_node, partition.ranks_per_node, name)
    hours = _at_most("--hours", request.hours, partition.max_hours, name)
    _at_most("--nodes", request.nodes, partition.nodes or math.inf, name)
    if request.venv and request.container:
        raise ValueError("launch: aqqua must come from one place, got --venv and --container; give one")
    if request.stage and site.node_disk is None:
        raise ValueError(f"launch: --stage needs a node_disk, got none for {site.name}; leave --stage out")
    config = _there("config", request.config, home)
    runs = _runs(request, home)
    datasets = {_dataset(run, config, request.nodes * int(ranks), home) for run in runs}
    if request.stage and len(datasets) > 1:
        raise ValueError(
            f"launch: --stage copies one dataset for all runs, got {len(datasets)} in the sweep of "
            "data.path; leave --stage out or launch one dataset at a time"
        )
    venv, container = (
        None if path is None else _there(what, path, home)
        for what, path in (("venv", request.venv), ("container", request.container))
    )
    return Job(
        site, name, partition, request.nodes, int(ranks), hours, config, runs, min(datasets), home,
        request.account, venv, container, request.stage,
    )  # fmt: skip


def path_override(key: str, path: Path | str) -> str:
    """A path as the value of an override, whatever its name: overrides are YAML, and JSON is YAML."""
    return f"{key}={json.dumps(str(path), ensure_ascii=False)}"


def _at_most(option: str, wanted: float | None, most: float, partition: str) -> float:
    if wanted is None:
        return most
    if not 0 < wanted <= most or not math.isfinite(wanted):
        limit = f" and at most {most:g}" if math.isfinite(most) else ""
        less = (
            "correct it" if wanted <= 0 or math.isnan(wanted) else "ask for less or choose another partition"
        )
        raise ValueError(f"launch: {option} must be above 0{limit} in {partition}, got {wanted:g}; {less}")
    return wanted


def _absolute(path: Path, home: Path) -> Path:
    """Without `..`, so that what lies beside it can be named."""
    return Path(os.path.normpath(home / path))


def _there(what: str, path: Path, home: Path) -> Path:
    found = _absolute(path, home)
    if not found.exists():
        raise ValueError(f"launch: the {what} must be there when the job starts, got {found}; check it")
    return found


def _runs(request: Request, home: Path) -> tuple[RunOf, ...]:
    """The runs of a sweep, each in a numbered folder of the config's; or the one run."""
    config = load_config(PretrainConfig, home / request.config, request.overrides)
    folder = _absolute(config.run, home)
    if not request.sweep:
        return (_run_in(folder, request.overrides),)
    choices = [_choices(axis) for axis in request.sweep]
    combinations = list(itertools.product(*choices))
    if len(combinations) > MOST_RUNS:
        raise ValueError(
            f"launch: a sweep must have at most {MOST_RUNS} runs, got {len(combinations)}; split it"
        )
    digits = len(str(len(combinations) - 1))
    return tuple(
        _run_in(folder / f"{k:0{digits}}", (*request.overrides, *chosen))
        for k, chosen in enumerate(combinations)
    )


def _run_in(folder: Path, overrides: tuple[str, ...]) -> RunOf:
    return RunOf(folder, (*overrides, path_override("run", folder)))


def _choices(axis: str) -> list[str]:
    key, equals, values = axis.partition("=")
    if not (key and equals and values):
        raise ValueError(
            f"launch: --sweep must look like key=value,value, got {axis!r}; see aqqua launch --help"
        )
    return [f"{key}={value}" for value in _split(axis, values)]


def _split(axis: str, values: str) -> list[str]:
    """The items of a YAML list without its brackets, each as it was written; lists among them stay whole."""
    text = f"[{values}]"
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(
            f"launch: the values of --sweep must be items of a YAML list, got {axis!r}; quote what is none, "
            "such as 'data.path=\"a, b\",c'"
        ) from error
    items: list[yaml.Node] = [] if node is None else node.value
    return [text[item.start_mark.index : item.end_mark.index] for item in items]


def _dataset(run: RunOf, config: Path, ranks: int, home: Path) -> Path:
    """That of a run that so many ranks can serve."""
    data = load_config(PretrainConfig, config, run.overrides).data
    lanes = data.lanes
    if lanes % ranks:
        raise ValueError(
            f"launch: data.lanes must be a multiple of the {ranks} ranks, got {lanes}; "
            f"set data.lanes={-(-lanes // ranks) * ranks}, or change --nodes or --gpus-per-node"
        )
    if data.weights is not None:
        _there("data.weights", data.weights, home)
    return _there("dataset", data.path, home)
