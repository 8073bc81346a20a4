"""ZeRO is the plain engine's training, cut up: the same losses, teacher, verdicts and checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import train_on, train_well

from aqqua.train import checkpoint, loop
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.data import StepData
from aqqua.train.deepspeed_engine import OLD_LOCK_S, old_locks
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.loop import pretrain
from aqqua.train.ranks import Place, Ranks
from aqqua.train.run import Run
from aqqua.train.settings import PretrainConfig
from aqqua.train.sharded_teacher import ShardedTeacher
from aqqua.train.step import Outcome, Rates, take_step
from aqqua.train.zero_config import ZeroConfig, deepspeed_config

pytest.importorskip("deepspeed")

STEPS = 50
STAGES = (1, 2, 3)
MakeConfig = Callable[..., PretrainConfig]


@pytest.fixture(scope="module")
def config_of(make_config: MakeConfig, sample_dataset: Path) -> MakeConfig:
    """A run over images of five instruments; with a stage, by ZeRO."""

    def make(
        folder: Path,
        stage: int = 0,
        zero: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        **train: Any,
    ) -> PretrainConfig:
        # Under 100 values are whole in stage 3, as are norms and gains of real models under the default.
        cut = {"stage": stage, "whole_below": 100, **(zero or {})}
        engine = {"engine": "zero", "zero": cut} if stage else {}
        return make_config(
            folder,
            data={"path": sample_dataset, "lanes": 4},
            optim={"lr": 5e-4, "lr_rule": "none"},
            model=model or {},
            train={"images": 8000, "max_steps": STEPS, "deterministic": False, **engine, **train},
        )

    return make


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def saved(folder: Path) -> Checkpoint:
    found = checkpoint.load_newest(folder / CHECKPOINTS)
    assert found is not None
    return found


def assert_same_training(folder: Path, dense: Path) -> None:
    """Losses to 1e-5, teacher to 1e-6, the rest of the checkpoint of the same names and shapes, and close."""
    apart = [
        abs(mine[name] - theirs[name])
        for mine, theirs in zip(losses(folder), losses(dense), strict=True)
        for name in theirs
    ]
    assert max(apart) <= 1e-5
    got, want = saved(folder), saved(dense)
    assert got.step == want.step
    assert {n: t.shape for n, t in got.tensors.items()} == {n: t.shape for n, t in want.tensors.items()}
    for name, tensor in want.tensors.items():
        room = 1e-6 if name.startswith("teacher.") else 1e-5
        assert float((got.tensors[name] - tensor).abs().max()) <= room, name
    assert got.state["lanes"] == want.state["lanes"]


@pytest.fixture(scope="module")
def dense(config_of: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by the plain engine in one process; KoLeo, DINO and iBOT, clipped, weights decaying."""
    folder = tmp_path_factory.mktemp("dense") / "run"
    pretrain(config_of(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_of_each_stage_are_the_dense_run(config_of, dense, tmp_path, stage):
    train_well(2, config_of(tmp_path / "run", stage))
    assert_same_training(tmp_path / "run", dense)


@pytest.mark.slow
def test_runs_of_all_engines_and_numbers_of_ranks_continue_each_other(config_of, dense, tmp_path):
    """Plain, stage 3 on two ranks, stage 1 on one, stage 2 on two, plain on two."""
    parts = ((1, 0, 10), (2, 3, 20), (1, 1, 30), (2, 2, 40), (2, 0, STEPS))
    for ranks, stage, stop in parts:
        train_well(ranks, config_of(tmp_path / "run", stage, max_steps=stop))
    assert_same_training(tmp_path / "run", dense)


def _spoil(_run: Run, data: StepData) -> None:
    data.batches[0].patches_NF[5, 7] = float("nan")


def _refuse_a_good_gradient(run: Run, _data: StepData) -> None:
    """Losses and gradients are finite, the verdict is against them."""
    admits = run.guard.admits

    def never(_loss: float, _norms: dict[str, float]) -> bool:
        run.guard.admits = admits  # type: ignore[method-assign]
        return run.guard.admits(float("nan"), {})

    run.guard.admits = never  # type: ignore[method-assign]


def _at_step_2(action: Callable[[Run, StepData], None]) -> None:
    def meddled(run: Run, data: StepData, rates: Rates) -> Outcome:
        if run.step + 1 == 2:
            action(run, data)
        return take_step(run, data, rates)

    loop.take_step = meddled


def spoil_on_rank_1(rank: int) -> None:
    _at_step_2(_spoil if rank == 1 else lambda _run, _data: None)


def spoil_alone(_rank: int) -> None:
    _at_step_2(_spoil)


def refuse_on_all(_rank: int) -> None:
    _at_step_2(_refuse_a_good_gradient)


@pytest.fixture(scope="module")
def skipping(config_of: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Four steps of the plain engine, the second of them skipped."""
    folder = tmp_path_factory.mktemp("skipping") / "run"
    train_well(1, config_of(folder, max_steps=4), meddle=spoil_alone)
    return saved(folder)


@pytest.mark.parametrize(
    ("stage", "offload", "meddle"),
    [
        (1, False, refuse_on_all),
        (2, False, spoil_on_rank_1),
        (2, True, refuse_on_all),
        (3, False, refuse_on_all),
        (3, True, spoil_on_rank_1),
    ],
)
def test_a_step_that_must_not_be_taken_is_skipped_on_all_ranks(
    config_of, skipping, tmp_path, stage, offload, meddle
):
    """And leaves no trace: the run is that of the plain engine that skips it."""
    train_well(2, config_of(tmp_path / "run", stage, {"offload": offload}, max_steps=4), meddle=meddle)
    got = saved(tmp_path / "run")
    assert got.state["guard"] == skipping.state["guard"] == {"streak": 0, "skipped": 1}
    assert got.state["lanes"] == skipping.state["lanes"]
    counts = {float(t) for name, t in got.tensors.items() if name.startswith("optimizer.step.")}
    assert counts == {3.0}
    for name, tensor in skipping.tensors.items():
        assert float((got.tensors[name] - tensor).abs().max()) <= 1e-5, name


@pytest.fixture(scope="module")
def half(config_of: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of the plain engine with products in bfloat16."""
    folder = tmp_path_factory.mktemp("half") / "run"
    pretrain(config_of(folder, precision="bfloat16", max_steps=3))
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_products_in_bfloat16_and_moments_on_the_host(config_of, half, tmp_path, stage):
    """Both work and stay near the plain engine's run in bfloat16."""
    cut = {"offload": True}
    train_well(2, config_of(tmp_path / "run", stage, zero=cut, precision="bfloat16", max_steps=3))
    for mine, theirs in zip(losses(tmp_path / "run"), losses(half), strict=True):
        assert mine["total"] == pytest.approx(theirs["total"], abs=2e-3)
    teacher = {n: t for n, t in saved(tmp_path / "run").tensors.items() if n.startswith("teacher.")}
    assert {tensor.dtype for tensor in teacher.values()} == {torch.float32}


def test_blocks_run_again_in_the_backward_pass_change_nothing(config_of, dense, tmp_path):
    """Activation checkpointing where the weights come and go."""
    train_well(2, config_of(tmp_path / "run", 3, model={"activation_checkpointing": True}, max_steps=4))
    for mine, theirs in zip(losses(tmp_path / "run"), losses(dense)[:4], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_standard_output_is_the_answer_alone(config_of, tmp_path):
    ended = train_on(2, config_of(tmp_path / "run", 3, max_steps=1))
    assert ended.codes == [0, 0]
    answer, *more = ended.answered[0].splitlines()
    assert "in 1 step" in answer
    assert (more, ended.answered[1], ended.said[1]) == ([], "", "")


def test_the_dict_for_deepspeed_says_what_the_config_says():
    told = deepspeed_config(ZeroConfig(stage=3, offload=True, whole_below=7, overlap=True), 8, 4, True)
    assert told["zero_optimization"]["stage"] == 3
    assert told["zero_optimization"]["stage3_param_persistence_threshold"] == 7
    assert told["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert told["zero_optimization"]["overlap_comm"] is True
    assert told["gradient_accumulation_steps"] == 8
    assert told["train_batch_size"] == 32
    assert told["gradient_clipping"] == 0.0  # ours is per sub-module
    assert told["torch_autocast"]["enabled"] is True
    plain = deepspeed_config(ZeroConfig(stage=1), 1, 1, False)
    assert "offload_optimizer" not in plain["zero_optimization"]
    assert not any(key.startswith("stage3") for key in plain["zero_optimization"])


@pytest.mark.parametrize(
    ("rooms", "message"),
    [
        ({"train": {"deterministic": True}}, "deterministic"),
        ({"optim": {"backend": "triton"}}, "optim.backend"),
        ({"objective": {"kernels": "recompute"}}, "recompute"),
        ({"model": {"width": 32}, "train": {"zero": {"stage": 3, "whole_below": 31}}}, "whole_below"),
    ],
)
def test_what_zero_cannot_do_is_refused_with_the_setting(make_config, tmp_path, rooms, message):
    zero = {"engine": "zero", "zero": {"stage": 3, "whole_below": 100}, "deterministic": False}
    rooms["train"] = zero | rooms.get("train", {})
    with pytest.raises(ValueError, match=message):
        make_config(tmp_path, **rooms)


def test_a_missing_deepspeed_is_said(config_of, tmp_path):
    ended = train_on(1, config_of(tmp_path / "run", 1), meddle=hide_deepspeed)
    assert ended.codes[0] not in (0, None)
    assert "pip install 'aqqua[cluster]'" in ended.said[0]


def hide_deepspeed(_rank: int) -> None:
    import sys

    sys.modules["deepspeed"] = None  # type: ignore[assignment]


class Unit(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 5)
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.gain


def test_pieces_of_a_teacher_are_even_and_make_up_the_whole():
    whole = torch.nn.Sequential(Unit(), torch.nn.LayerNorm(5))
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    halves = []
    for rank in (0, 1, 2):
        whole = torch.nn.Sequential(Unit(), torch.nn.LayerNorm(5))
        whole.load_state_dict(state)
        halves.append(ShardedTeacher(whole, (Unit,), Ranks(Place(rank, 3))))
    for name in ("0.inner.weight", "0.inner.bias", "0.gain"):
        pieces = [half.pieces[name] for half in halves]
        assert len({len(piece) for piece in pieces}) == 1
        joined = torch.cat(pieces)[: state[name].numel()]
        assert torch.equal(joined.view(state[name].shape), state[name])
    assert set(halves[0].pieces) == {"0.inner.weight", "0.inner.bias", "0.gain"}


def test_a_unit_is_whole_in_its_forward_alone():
    teacher = torch.nn.Sequential(Unit(), torch.nn.LayerNorm(5))
    x = torch.randn(4, 3)
    want = teacher(x)
    ShardedTeacher(teacher, (Unit,), Ranks())
    with torch.no_grad():
        assert torch.equal(teacher(x), want)
    assert all(parameter.numel() == 0 for parameter in teacher[0].parameters())
    assert teacher[1].weight.numel() == 5


def test_a_lock_that_nobody_lets_go_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "py" / "deepspeed_shm_comm").mkdir(parents=True)
    lock = tmp_path / "py" / "deepspeed_shm_comm" / "lock"
    lock.touch()
    now_s = lock.stat().st_mtime
    assert old_locks(now_s + 1) == []
    assert old_locks(now_s + 2 * OLD_LOCK_S) == [lock]
