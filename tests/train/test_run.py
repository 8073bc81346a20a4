"""A run and its resume: bit for bit the run that was never disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from same_run import assert_same_run, numbers, saved

from aqqua.config import to_yaml
from aqqua.train import checkpoint, loop
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.data import StepData
from aqqua.train.folder import CHECKPOINTS, only_process
from aqqua.train.guard import NonFiniteError
from aqqua.train.loop import pretrain
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, take_step

STEPS = 12
MakeConfig = Callable[..., PretrainConfig]


@pytest.fixture(scope="module")
def undisturbed(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that everything is compared with: twelve steps at one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    pretrain(make_config(folder, train={"max_steps": STEPS}))
    return folder


class Meddler:
    """Stands in for the loop's take_step: does something at a step, then takes it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, actions: dict[int, Callable[[StepData], None]]
    ) -> None:
        self.actions = actions
        monkeypatch.setattr(loop, "take_step", self)

    def __call__(self, run: Run, data: StepData, rates: Rates) -> Outcome:
        if action := self.actions.get(run.step + 1):
            action(data)
        return take_step(run, data, rates)


def spoil(data: StepData) -> None:
    data.batches[1].patches_NF[5, 7] = float("nan")


def test_a_run_leaves_what_is_said_of_it(undisturbed):
    found = saved(undisturbed)
    assert found.step == STEPS
    assert found.state["images"] > 10 * STEPS
    rows = numbers(undisturbed)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["images"] == found.state["images"]
    parts = rows[0]["loss"]
    assert parts["total"] == pytest.approx(parts["dino"] + parts["ibot"] + 0.1 * parts["koleo"], rel=1e-5)
    student = [name for name in found.tensors if name.startswith("student.")]
    moved = [n for n in student if not torch.equal(found.tensors[n], found.tensors["teacher" + n[7:]])]
    assert len(moved) == len(student)
    assert {f"optimizer.exp_avg.{name}" for name in student} <= found.tensors.keys()
    environment = json.loads((undisturbed / "environment.json").read_text())
    assert environment["dataset_sha256"] == found.state["dataset"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resume_is_exact_as_users_run_it(make_config, tmp_path, precision):
    """The default attention and renderer, no deterministic mode, both precisions."""
    rooms = {"model": {"attention": "auto"}}
    train = {"max_steps": STEPS, "precision": precision, "deterministic": False}
    pretrain(make_config(tmp_path / "whole", **rooms, train=train))
    for stop in (4, STEPS):
        pretrain(make_config(tmp_path / "parts", **rooms, train={**train, "max_steps": stop}))
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_a_killed_process_is_continued_exactly(undisturbed, make_config, tmp_path):
    """kill -9 of the real command after some steps; the same command then ends like a run left alone."""
    config = make_config(tmp_path / "run", train={"max_steps": STEPS, "checkpoint_every": 2})
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    command = [sys.executable, "-m", "aqqua.cli", "pretrain", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        metrics = tmp_path / "run" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n") >= 5):
            assert time.monotonic() < deadline, "the run did not start"
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert saved(tmp_path / "run").step < STEPS
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that must be missing")
def test_a_missing_gpu_is_said(make_config, tmp_path):
    with pytest.raises(ValueError, match=r"needs a CUDA device, got none .* train\.device=auto"):
        pretrain(make_config(tmp_path, train={"device": "cuda"}))


def test_a_run_in_use_is_refused(make_config, tmp_path):
    config = make_config(tmp_path)
    with only_process(tmp_path), pytest.raises(ValueError, match=r"by one process, got .* wait for it"):
        pretrain(config)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_folder_that_holds_something_else_is_refused(make_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="new folder or an earlier run"):
        pretrain(make_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("cuts", [(5,), (1, 8)], ids=["5+7", "1+7+4"])
def test_parts_of_a_run_are_the_run(undisturbed, make_config, tmp_path, cuts):
    for stop in (*cuts, STEPS):
        torch.manual_seed(stop)  # a new process has other global random numbers
        pretrain(make_config(tmp_path, train={"max_steps": stop}))
    assert_same_run(tmp_path, undisturbed)


def test_killed_between_checkpoints(undisturbed, make_config, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(_data: StepData) -> None:
        raise Killed

    config = make_config(tmp_path, train={"max_steps": STEPS, "checkpoint_every": 3})
    with monkeypatch.context() as patch:
        Meddler(patch, {9: die})
        with pytest.raises(Killed):
            pretrain(config)
    assert saved(tmp_path).step == 6
    assert len(numbers(tmp_path)) == 8  # two steps will be taken, and written, once more
    pretrain(config)
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_in_mid_step_ends_the_run_after_it(undisturbed, make_config, tmp_path, monkeypatch, number):
    config = make_config(tmp_path, train={"max_steps": STEPS})
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        Meddler(patch, {4: lambda _data: os.kill(os.getpid(), number)})
        assert pretrain(config).step == 4
    assert saved(tmp_path).step == 4
    assert signal.getsignal(number) == before
    pretrain(config)
    assert_same_run(tmp_path, undisturbed)


def test_without_prefetch_the_bits_are_the_same(undisturbed, make_config, tmp_path):
    pretrain(make_config(tmp_path, data={"prefetch": False}, train={"max_steps": STEPS}))
    assert_same_run(tmp_path, undisturbed)


def test_a_finished_run_is_left_as_it_is(undisturbed, make_config):
    before = {path: path.read_bytes() for path in (undisturbed / CHECKPOINTS).rglob("*.*") if path.is_file()}
    run = pretrain(make_config(undisturbed, train={"max_steps": 4}))  # fewer than it has
    assert run.step == STEPS
    assert {path: path.read_bytes() for path in before} == before


def test_training_on_does_not_touch_the_checkpoint_it_came_from(make_config, tmp_path):
    pretrain(make_config(tmp_path, train={"max_steps": 2}))
    first = next((tmp_path / CHECKPOINTS).iterdir())
    pretrain(make_config(tmp_path, train={"max_steps": 3}))
    assert checkpoint.verify(first) is None


def test_a_broken_newest_checkpoint_costs_steps_not_the_run(undisturbed, make_config, tmp_path):
    pretrain(make_config(tmp_path, train={"max_steps": 7, "checkpoint_every": 3}))
    newest = max((tmp_path / CHECKPOINTS).iterdir())
    (newest / "state.json").write_text("{}")
    with pytest.warns(UserWarning, match="step-000000000007"):
        pretrain(make_config(tmp_path, train={"max_steps": STEPS}))
    assert_same_run(tmp_path, undisturbed)


def test_a_full_disk_does_not_end_training_but_is_said_at_the_end(make_config, tmp_path, monkeypatch, capsys):
    save, calls = checkpoint.save, []

    def full_twice(folder: Path, made: Checkpoint, keep: int) -> Path:
        calls.append(made.step)
        if made.step in (4, 5):
            raise OSError(28, "No space left on device")
        return save(folder, made, keep)

    monkeypatch.setattr(checkpoint, "save", full_twice)
    config = make_config(tmp_path, train={"max_steps": 5, "checkpoint_every": 2})
    with pytest.raises(OSError, match="No space left"):
        pretrain(config)  # the last one is what the run was for
    assert calls == [2, 4, 5]
    assert "no checkpoint of step 4" in capsys.readouterr().err
    assert saved(tmp_path).step == 2


def test_a_skipped_step_is_written_down_and_passed(make_config, tmp_path, monkeypatch):
    Meddler(monkeypatch, {3: spoil, 4: spoil})
    run = pretrain(make_config(tmp_path, train={"max_steps": 6}))
    assert run.step == 6
    assert (run.guard.streak, run.guard.skipped) == (0, 2)
    rows = numbers(tmp_path)
    assert [row["loss"]["total"] == "nan" for row in rows] == [False, False, True, True, False, False]
    noted = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["step"] for row in noted] == [3, 4]
    assert [len(row["images"]) for row in noted] == [
        rows[i]["images"] - rows[i - 1]["images"] for i in (2, 3)
    ]
    assert all("blob" in name for row in noted for name in row["images"])
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path).tensors.values())


@pytest.mark.parametrize("first", [1, 5])
def test_three_in_a_row_stop_the_run_and_lose_nothing(make_config, tmp_path, monkeypatch, first):
    """Even before the first periodic checkpoint; the bad data is behind the run when it goes on."""
    config = make_config(tmp_path, train={"max_steps": 9, "checkpoint_every": 100})
    with monkeypatch.context() as patch:
        Meddler(patch, {first + i: spoil for i in range(3)})
        with pytest.raises(NonFiniteError, match=rf"step {first + 2}: .* got loss.*blob"):
            pretrain(config)
    found = saved(tmp_path)
    assert found.step == first + 2
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    noted = [json.loads(line)["step"] for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert noted == [first, first + 1, first + 2]
    run = pretrain(config)  # the cause is mended
    assert (run.step, run.guard.skipped, run.guard.streak) == (9, 3, 0)
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 3


def test_skipped_steps_after_the_checkpoint_are_noted_once(make_config, tmp_path, monkeypatch):
    config = make_config(tmp_path, train={"max_steps": 5})

    def die(_data: StepData) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        Meddler(patch, {2: spoil, 4: die})
        with pytest.raises(KeyboardInterrupt):
            pretrain(config)
    Meddler(monkeypatch, {2: spoil})
    pretrain(config)
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("rooms", "message"),
    [
        ({"model": {"layers": 3}}, r"must fit the model of the config, got missing \['student.*blocks.2"),
        ({"objective": {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16}}}, "got other shapes of"),
        ({"data": {"lanes": 4}}, r"order of the images .* data.lanes 4 instead of 2"),
        ({"data": {"window_blocks": 2}}, "data.window_blocks 2 instead of 1"),
        ({"data": {"holdout": 0.0}}, "data.holdout 0.0 instead of 0.1"),
    ],
    ids=["layers", "prototypes", "lanes", "window", "holdout"],
)
def test_what_does_not_fit_the_checkpoint_is_refused(undisturbed, make_config, rooms, message):
    with pytest.raises(ValueError, match=message):
        open_run(make_config(undisturbed, **rooms))


def test_another_seed_or_dataset_is_refused(undisturbed, make_config, other_dataset):
    with pytest.raises(ValueError, match="seed 4 instead of 3"):
        open_run(make_config(undisturbed).model_copy(update={"seed": 4}))
    with pytest.raises(ValueError, match="dataset must be the one the run began with"):
        open_run(make_config(undisturbed, data={"path": other_dataset}))


def test_only_broken_checkpoints_are_no_new_start(make_config, tmp_path):
    pretrain(make_config(tmp_path, train={"max_steps": 1}))
    for file in (tmp_path / CHECKPOINTS).glob("*/manifest.json"):
        file.unlink()
    with pytest.raises(ValueError, match="must verify, got none that does"):
        pretrain(make_config(tmp_path, train={"max_steps": 2}))


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_memory_of_a_long_run_does_not_grow(make_config, tmp_path, monkeypatch):
    seen: dict[int, float] = {}

    def look(_data: StepData) -> None:
        seen[len(seen)] = resident_mb()

    Meddler(monkeypatch, dict.fromkeys(range(1, 501), look))
    config = make_config(
        tmp_path,
        data={"lanes": 1, "pack_tokens": 128},
        views={"locals": 1, "max_tokens": (16, 4), "min_tokens": (4, 1)},
        model={"width": 16, "layers": 1},
        train={"images": 10**6, "max_steps": 500, "checkpoint_every": 100, "log_every": 5},
    )
    pretrain(config)
    assert len(seen) == 500
    early = max(seen[step] for step in range(150, 200))
    late = min(seen[step] for step in range(450, 500))
    assert late - early < 3.0, [round(seen[step], 1) for step in range(0, 500, 50)]
