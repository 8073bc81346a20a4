"""Runs of two and four processes: the same run as that of one, through whatever happens to one of them.

Every case starts real processes that talk by gloo on this machine; they train a tiny model for a few steps.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import free_port, train_on, train_well
from same_run import assert_same_run, numbers, saved

from aqqua.config import to_yaml
from aqqua.store.read import Dataset
from aqqua.train import checkpoint, loop
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.data import StepData
from aqqua.train.loop import pretrain
from aqqua.train.run import Run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, take_step

STEPS, LANES = 8, 4
MakeConfig = Callable[..., PretrainConfig]
Action = Callable[[Run, StepData], None]


def config_of(make_config: MakeConfig, folder: Path, **train: Any) -> PretrainConfig:
    return make_config(folder, data={"lanes": LANES}, train={"images": 8000, "max_steps": STEPS, **train})


def at_steps(actions: dict[int, Action]) -> None:
    """In a rank's own process: do something at some steps, before they are taken."""

    def meddled(run: Run, data: StepData, rates: Rates) -> Outcome:
        if action := actions.get(run.step + 1):
            action(run, data)
        return take_step(run, data, rates)

    loop.take_step = meddled


@pytest.fixture(scope="module")
def alone(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that all others are compared with."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    pretrain(config_of(make_config, folder))
    return folder


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_is_the_same_run(alone, make_config, tmp_path, ranks):
    train_well(ranks, config_of(make_config, tmp_path / "run"))
    assert_same_run(tmp_path / "run", alone)
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["ranks"] == ranks


@pytest.mark.slow
def test_the_number_of_ranks_may_change_at_every_resume(alone, make_config, tmp_path):
    """2, 1, 2 and 4 ranks in turn."""
    for ranks, stop in ((2, 2), (1, 4), (2, 6), (4, STEPS)):
        train_well(ranks, config_of(make_config, tmp_path / "run", max_steps=stop))
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_without_deterministic_the_ranks_hardly_show(make_config, tmp_path):
    """Sixty steps, the number of ranks changing on the way, against one process."""
    quick = {"deterministic": False, "max_steps": 60}
    pretrain(config_of(make_config, tmp_path / "alone", **quick))
    for ranks, stop in ((2, 15), (1, 30), (2, 45), (4, 60)):
        train_well(ranks, config_of(make_config, tmp_path / "many", **quick | {"max_steps": stop}))
    pairs = zip(numbers(tmp_path / "many"), numbers(tmp_path / "alone"), strict=True)
    apart = [abs(a["loss"]["total"] - b["loss"]["total"]) for a, b in pairs]
    assert len(apart) == 60
    assert max(apart) <= 1e-6


def test_ranks_that_do_not_divide_the_lanes_are_refused(make_config, tmp_path):
    ended = train_on(3, config_of(make_config, tmp_path / "run"))
    assert ended.codes == [2, 2, 2]
    assert all("ranks must divide lanes" in said and "multiple of 3" in said for said in ended.said)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_only_rank_0_speaks_and_writes(make_config, tmp_path):
    ended = train_on(2, config_of(make_config, tmp_path / "run", max_steps=1))
    assert ended.codes == [0, 0]
    assert "float32 on 2 × cpu" in ended.said[0]
    assert ended.said[1] == ""
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {".lock", "config.yaml", "environment.json", "metrics.jsonl", "checkpoints"}


def _spoil(_run: Run, data: StepData) -> None:
    data.batches[0].patches_NF[5, 7] = float("nan")


def _spoil_gradient(run: Run, _data: StepData) -> None:
    weight = run.model.student.backbone.norm.weight
    handle = weight.register_hook(lambda grad: (handle.remove(), grad * float("inf"))[1])


def spoil_on_rank_1(rank: int) -> None:
    at_steps({3: _spoil} if rank == 1 else {})


def spoil_one_gradient_on_rank_1(rank: int) -> None:
    at_steps({3: _spoil_gradient} if rank == 1 else {})


def spoil_on_all(_rank: int) -> None:
    at_steps({3: _spoil})


@pytest.fixture(scope="module")
def skipping(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Five steps of one process, the third of them skipped."""
    folder = tmp_path_factory.mktemp("skipping") / "run"
    train_well(1, config_of(make_config, folder, max_steps=5), meddle=spoil_on_all)
    return saved(folder)


@pytest.mark.parametrize("meddle", [spoil_on_rank_1, spoil_one_gradient_on_rank_1])
def test_what_is_not_finite_on_one_rank_is_skipped_by_all(make_config, skipping, tmp_path, meddle):
    """As in a run of one process that meets it; and that one skips a step, which changes nothing."""
    train_well(2, config_of(make_config, tmp_path / "run", max_steps=5), meddle=meddle)
    got, want = saved(tmp_path / "run"), skipping
    assert [name for name in want.tensors if not torch.equal(got.tensors[name], want.tensors[name])] == []
    assert got.state["guard"] == {"streak": 0, "skipped": 1}
    assert got.state["lanes"] == want.state["lanes"]
    (noted,) = (json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines())
    images = [row["images"] for row in numbers(tmp_path / "run")]
    assert noted["step"] == 3
    assert len(noted["images"]) == images[2] - images[1]  # those of both ranks


def signal_rank_1(rank: int) -> None:
    at_steps({4: lambda _run, _data: os.kill(os.getpid(), signal.SIGUSR1)} if rank == 1 else {})


def test_a_signal_to_one_rank_ends_all_after_the_same_step(alone, make_config, tmp_path):
    config = config_of(make_config, tmp_path / "run")
    ended = train_on(2, config, meddle=signal_rank_1)
    assert ended.codes == [0, 0]
    assert saved(tmp_path / "run").step == 4
    assert "after step 4" in ended.said[0]
    train_well(2, config)
    assert_same_run(tmp_path / "run", alone)


def _flip(run: Run, _data: StepData) -> None:
    run.model.teacher.backbone.norm.weight.data.view(torch.int32)[3] ^= 1


def flip_a_bit_on_rank_2(rank: int) -> None:
    at_steps({3: _flip} if rank == 2 else {})


def test_a_flipped_bit_is_found_and_the_rank_named(make_config, tmp_path):
    config = make_config(
        tmp_path / "run", data={"lanes": 3},
        train={"images": 4000, "max_steps": STEPS, "hash_every": 4, "checkpoint_every": 2},
    )  # fmt: skip
    ended = train_on(3, config, meddle=flip_a_bit_on_rank_2)
    assert ended.codes == [1, 1, 1]
    assert "step 4: weights must have the same bits" in ended.said[0]
    assert "on rank 2 in teacher.backbone.norm.weight" in ended.said[0]
    assert saved(tmp_path / "run").step == 2  # the one at step 4 would have been tainted


def full_disk_at_step_2(_rank: int) -> None:
    save = checkpoint.save

    def full(folder: Path, made: Checkpoint, keep: int) -> Path:
        if made.step == 2:
            raise OSError(28, "No space left on device")
        return save(folder, made, keep)

    checkpoint.save = full


def test_a_full_disk_is_known_to_all_and_ends_nothing(alone, make_config, tmp_path):
    config = config_of(make_config, tmp_path / "run", checkpoint_every=2)
    ended = train_on(2, config, meddle=full_disk_at_step_2)
    assert ended.codes == [0, 0]
    assert "no checkpoint of step 2" in ended.said[0]
    assert_same_run(tmp_path / "run", alone)


def lose_the_disk_on_rank_1(rank: int) -> None:
    if rank == 0:
        return
    read, reads = Dataset.block_with, []

    def failing(self: Dataset, block: int, columns: Any) -> Any:
        reads.append(block)
        if len(reads) > 12:
            raise OSError(5, "Input/output error")
        return read(self, block, columns)

    Dataset.block_with = failing


@pytest.mark.slow
def test_a_disk_that_fails_on_one_rank_ends_all_with_a_checkpoint(make_config, tmp_path):
    config = config_of(make_config, tmp_path / "run", max_steps=60)
    ended = train_on(2, config, meddle=lose_the_disk_on_rank_1)
    assert None not in ended.codes
    assert 0 not in ended.codes
    assert "Input/output error" in ended.said[1]
    assert "got none on rank 1" in ended.said[0]
    assert saved(tmp_path / "run").step > 0


def _kill(_run: Run, _data: StepData) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(_run: Run, _data: StepData) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_rank_1(rank: int) -> None:
    at_steps({3: _kill} if rank == 1 else {})


def stop_rank_1(rank: int) -> None:
    at_steps({3: _stop} if rank == 1 else {})


def stop_rank_0(rank: int) -> None:
    at_steps({3: _stop} if rank == 0 else {})


@pytest.mark.parametrize(
    ("meddle", "lost"),
    [(kill_rank_1, 1), (stop_rank_1, 1), (stop_rank_0, 0)],
    ids=lambda what: getattr(what, "__name__", str(what)),
)
def test_a_lost_rank_ends_the_others_in_time_and_is_named(make_config, tmp_path, meddle, lost):
    """Within the longest silence and two seconds from the step it was lost at."""
    timeout_s, started = 3.0, time.monotonic()
    ends: dict[str, float] = {}

    def watch() -> None:
        metrics = tmp_path / "run" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
            time.sleep(0.02)
            if time.monotonic() - started > 60:
                return
        ends["lost"] = time.monotonic()

    watcher = threading.Thread(target=watch)
    watcher.start()
    config = config_of(make_config, tmp_path / "run", timeout_s=timeout_s)
    ended = train_on(2, config, meddle=meddle, limit_s=25, lost=lost)
    ended_at = time.monotonic()
    watcher.join()
    other = 1 - lost
    assert ended.codes[other] not in (0, None), ended
    assert f"rank {lost}" in ended.said[other]
    assert ended_at - ends["lost"] < timeout_s + 2 + 1  # a second for a loaded machine


def test_torchrun_and_the_command_line(alone, make_config, tmp_path):
    """The real launcher, the real command, both ranks on this machine."""
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config_of(make_config, tmp_path / "run")), encoding="utf-8")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
        "--master-port", str(free_port()), "-m", "aqqua.cli", "pretrain", str(file), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == STEPS  # said once
    assert_same_run(tmp_path / "run", alone)


def as_srun_would_say(rank: int) -> None:
    """Replace torchrun's variables by those of a job step."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        del os.environ[name]
    port = os.environ.pop("MASTER_PORT")
    os.environ |= {
        "SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "MASTER_PORT": port,
    }  # fmt: skip


def test_srun_needs_nothing_more(alone, make_config, tmp_path):
    train_well(2, config_of(make_config, tmp_path / "run"), meddle=as_srun_would_say)
    assert_same_run(tmp_path / "run", alone)
