"""Ranks go back alike: the plain engine as one process does, ZeRO from shards to whole tensors and back."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import train_on, train_well
from same_run import assert_same_run, numbers

from aqqua.train import checkpoint, loop
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.data import StepData
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.run import Run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, take_step

MakeConfig = Callable[..., PretrainConfig]
SPIKE = {"window": 2, "sigma": 1000.0, "odd_steps": 2, "of_last": 2}


def config_of(make_config: MakeConfig, folder: Path, **train: Any) -> PretrainConfig:
    common = {"images": 8000, "max_steps": 7, "checkpoint_every": 2, "keep_checkpoints": 9, "spike": SPIKE}
    return make_config(
        folder, data={"lanes": 4}, optim={"lr": 5e-4, "lr_rule": "none"}, train={**common, **train}
    )


def spike_here() -> None:
    """In a rank's own process: losses that are far too high at steps 4 and 5."""

    def meddled(run: Run, data: StepData, rates: Rates) -> Outcome:
        outcome = take_step(run, data, rates)
        if run.step + 1 in (4, 5):
            return replace(outcome, losses={**outcome.losses, "total": 1e6})
        return outcome

    loop.take_step = meddled


def spike_on_all(_rank: int) -> None:
    spike_here()


def spike_on_rank_1(rank: int) -> None:
    if rank == 1:
        spike_here()


def nan_on_rank_1(rank: int) -> None:
    def meddled(run: Run, data: StepData, rates: Rates) -> Outcome:
        if rank == 1 and run.step + 1 in (3, 4, 5):
            data.batches[0].patches_NF[5, 7] = float("nan")
        return take_step(run, data, rates)

    loop.take_step = meddled


def at(folder: Path, step: int) -> Checkpoint:
    return checkpoint.load(checkpoint.path_of(folder / CHECKPOINTS, step))


def noted(folder: Path) -> list[tuple[Any, ...]]:
    rows = map(json.loads, (folder / "rollbacks.jsonl").read_text().splitlines())
    return [(row["step"], row["reason"], row["to_step"]) for row in rows]


@pytest.fixture(scope="module")
def alone(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process that goes back from step 5 to step 2 and trains to step 7."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train_well(1, config_of(make_config, folder), meddle=spike_on_all)
    return folder


def test_two_ranks_go_back_as_one_does(alone, make_config, tmp_path):
    train_well(2, config_of(make_config, tmp_path / "run"), meddle=spike_on_all)
    assert noted(tmp_path / "run") == noted(alone) == [(5, "spike", 2)]
    assert_same_run(tmp_path / "run", alone)


def test_a_verdict_of_one_rank_is_that_of_all(make_config, tmp_path):
    """Rounding on one of them must not leave the others waiting."""
    ended = train_on(2, config_of(make_config, tmp_path / "run"), meddle=spike_on_rank_1)
    assert ended.codes == [0, 0]
    assert noted(tmp_path / "run") == [(5, "spike", 2)]
    assert "rollback 1 of 3" in " ".join(ended.said[0].split())


def test_what_is_not_finite_on_one_rank_takes_all_back_and_ends_all(make_config, tmp_path):
    config = config_of(make_config, tmp_path / "run", max_steps=6)
    train_well(2, config, meddle=nan_on_rank_1)
    assert noted(tmp_path / "run") == [(5, "not finite", 2)]
    none = config_of(make_config, tmp_path / "other", spike={**SPIKE, "rollbacks": 0})
    ended = train_on(2, none, meddle=nan_on_rank_1)
    assert ended.codes == [3, 3]


@pytest.mark.parametrize(("stage", "offload"), [(1, False), (2, True), (3, False)])
def test_zero_goes_back_in_mid_run(alone, make_config, tmp_path, stage, offload):
    pytest.importorskip("deepspeed")
    zero = {"stage": stage, "offload": offload, "whole_below": 100}
    config = config_of(make_config, tmp_path / "run", engine="zero", zero=zero, deterministic=False)
    train_well(2, config, meddle=spike_on_all)
    assert noted(tmp_path / "run") == [(5, "spike", 2)]
    before, after = at(tmp_path / "run", 2), at(tmp_path / "run", 5)
    assert before.tensors.keys() == after.tensors.keys()
    assert [n for n, t in before.tensors.items() if not torch.equal(t, after.tensors[n])] == []
    for mine, theirs in zip(numbers(tmp_path / "run"), numbers(alone), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    for name, tensor in at(alone, 7).tensors.items():
        assert float((at(tmp_path / "run", 7).tensors[name] - tensor).abs().max()) <= 1e-5, name
