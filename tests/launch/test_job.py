"""Requests checked before anything waits in a queue."""

import json
from pathlib import Path

import pytest

from aqqua.config import load_config
from aqqua.launch.job import MOST_RUNS, Request, path_override, plan_job
from aqqua.launch.site import load_site
from aqqua.train.settings import PretrainConfig

CONFIG = "run: runs/first\ndata: {path: data/isiis, lanes: 16}\ntrain: {epochs: 1}\n"


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "data/isiis").mkdir(parents=True)
    return tmp_path


def plan(home, **asked):
    return plan_job(Request(config=Path("run.yaml"), **asked), load_site("horeka"), home)


def test_a_job_takes_whole_nodes_unless_told_otherwise(home):
    job = plan(home, nodes=2)
    assert (job.partition_name, job.nodes, job.ranks_per_node, job.hours) == ("gpu-h100", 2, 4, 48)
    assert job.gpu_hours == 2 * 4 * 48
    assert job.cpus_per_rank == 16
    assert job.memory_mib_per_node == int(768 * 1024 * 0.95)
    assert job.dataset == home / "data/isiis"
    assert [run.folder for run in job.runs] == [home / "runs/first"]


def test_part_of_a_node_takes_its_share_of_memory(home):
    job = plan(home, gpus_per_node=1, hours=2)
    assert job.memory_mib_per_node == int(768 * 1024 * 0.95 / 4)
    assert job.gpu_hours == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"nodes": 22}, "--nodes must be above 0 and at most 21 in gpu-h100, got 22"),
        ({"nodes": 0}, "--nodes must be above 0 and at most 21 in gpu-h100, got 0"),
        ({"hours": 49.0}, "--hours must be above 0 and at most 48 in gpu-h100, got 49"),
        ({"hours": float("nan")}, "--hours must be above 0 and at most 48"),
        ({"gpus_per_node": 5}, "--gpus-per-node must be above 0 and at most 4"),
        ({"partition": "dev-gpu-h100", "hours": 2.0}, "at most 1 in dev-gpu-h100"),
        (
            {"nodes": 3},
            "data.lanes must be a multiple of the 12 ranks, got 16; set data.lanes=24, or change --nodes or",
        ),
        (
            {"sweep": ("data.lanes=16,20",), "nodes": 2},
            "multiple of the 8 ranks, got 20; set data.lanes=24, or change --nodes or --gpus-per-node",
        ),
        ({"overrides": ("data.path=nowhere",)}, "the dataset must be there .*, got .*/nowhere; check it"),
        ({"overrides": ("data.weights=nowhere",)}, "the data.weights must be there .*/nowhere; check it"),
        (
            {"sweep": ("data.path=data/isiis,nowhere",)},
            "the dataset must be there .*, got .*/nowhere; check it",
        ),
        ({"sweep": ("data.path=data/isiis,data",), "stage": True}, "--stage copies one dataset .*, got 2 in"),
        ({"sweep": ("nope.key=1",)}, "got nope.key;"),
        ({"sweep": ("optim.lr=1,,2",)}, "must be items of a YAML list, got 'optim.lr=1,,2'"),
        ({"partition": "gpu-h200", "nodes": 0}, "--nodes must be above 0 in gpu-h200, got 0; correct it"),
        ({"venv": Path("nowhere")}, "the venv must be there when the job starts, got .*nowhere"),
        ({"venv": Path("run.yaml"), "container": Path("run.yaml")}, "got --venv and --container; give one"),
        ({"sweep": ("seed",)}, "must look like key=value,value, got 'seed'"),
        ({"sweep": ("optim.lrr=1,2",)}, "optim.lrr.*optim.lr"),
        ({"sweep": ("seed=" + ",".join(map(str, range(MOST_RUNS + 1))),)}, "at most 1000 runs, got 1001"),
        ({"overrides": ("data.lanes=none",)}, "data.lanes"),
    ],
)
def test_what_cannot_be_had_is_refused(home, asked, message):
    with pytest.raises(ValueError, match=message):
        plan(home, **asked)


def test_a_config_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the config must be there when the job starts"):
        plan(tmp_path)


def test_staging_needs_a_disk(home):
    site = load_site("horeka").model_copy(update={"node_disk": None})
    with pytest.raises(ValueError, match="--stage needs a node_disk, got none for HoreKa"):
        plan_job(Request(config=Path("run.yaml"), stage=True), site, home)


def test_a_sweep_has_a_run_for_each_combination(home):
    job = plan(home, sweep=("optim.lr=1e-3,2e-3", "seed=1,2,3"), overrides=("data.lanes=4",))
    assert [run.folder.relative_to(home) for run in job.runs] == [Path(f"runs/first/{k}") for k in range(6)]
    assert job.runs[4].overrides == (
        "data.lanes=4", "optim.lr=2e-3", "seed=2", f'run="{home}/runs/first/4"',
    )  # fmt: skip
    assert job.log_folder == home / "runs/first-slurm"
    assert job.gpu_hours == 6 * 4 * 48


def test_run_folders_sort_as_they_count(home):
    job = plan(home, sweep=("seed=" + ",".join(map(str, range(12))),))
    assert [run.folder.name for run in job.runs] == [f"{k:02}" for k in range(12)]


def test_lists_can_be_swept(home):
    job = plan(home, sweep=("views.noise=[0, 0.1],[0,0]",), overrides=("data.lanes=4",))
    assert [run.overrides[1] for run in job.runs] == ["views.noise=[0, 0.1]", "views.noise=[0,0]"]


@pytest.mark.parametrize("name", ["try #2", "a: b", "it's", 'the "second"', "back\\slash", "grün", "null"])
def test_a_run_trains_in_the_folder_of_its_name_whatever_that_is(home, name):
    """Overrides are YAML, in which a folder may mean something else."""
    override = f"run={json.dumps(f'runs/{name}')}"
    (run,) = plan(home, overrides=(override,)).runs
    assert run.folder == home / "runs" / name
    assert load_config(PretrainConfig, home / "run.yaml", run.overrides).run == run.folder
    assert load_config(PretrainConfig, home / "run.yaml", (path_override("run", name),)).run == Path(name)


def test_paths_are_without_detours(home):
    (home / "a").mkdir()
    job = plan(home, overrides=("run=a/../runs/./first/..", "data.path=a/../data/isiis"))
    assert job.runs[0].folder == home / "runs"
    assert job.log_folder == home / "runs-slurm"
    assert job.dataset == home / "data/isiis"
