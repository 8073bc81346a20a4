"""A training run ended by kill -9 and taken up again, beside one that nothing disturbs, and its twin."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from made_states import exit_code, forked

from aqqua.train.checkpoint import load_newest
from aqqua.train.loop import pretrain
from aqqua.train.settings import PretrainConfig

WAIT_S = 120  # for a step, at most; one takes hundredths of a second


def config_of(run: Path, dataset: Path, steps: int) -> PretrainConfig:
    values = {
        "run": run,
        "seed": 3,
        "data": {"path": dataset, "holdout": 0.1, "lanes": 2, "window_blocks": 1, "pack_tokens": 2000},
        "views": {"locals": 2, "max_tokens": [64, 16]},
        "model": {"width": 32, "layers": 2, "heads": 2, "patch_px": 12, "layer_scale": 0.1},
        "objective": {"head": {"prototypes": 64, "hidden": 32, "bottleneck": 16}},
        "optim": {"lr": 5e-3, "lr_rule": "none"},
        "train": {
            "images": 10_000, "max_steps": steps, "log_every": 1, "checkpoint_every": 1, "device": "cpu",
            "threads": 1, "deterministic": True, "tensorboard": False,
        },
    }  # fmt: skip
    return PretrainConfig.model_validate(values)


def train_on(config: PretrainConfig) -> None:
    torch.set_num_threads(1)
    pretrain(config)


def kill_after(config: PretrainConfig, step: int) -> None:
    """Train in a child until the checkpoint of a step is there, then end it as a power cut would."""
    child, end = forked(partial(train_on, config)), time.monotonic() + WAIT_S
    newest = config.run / "checkpoints"
    while not any(path.name >= f"step-{step:012d}" for path in newest.glob("step-*")):
        assert time.monotonic() < end, f"no checkpoint of step {step}"
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) == -signal.SIGKILL


def losses_of(run: Path) -> dict[int, str]:
    """All parts of the loss of every step, to the last digit, as a resumed run rewrites its log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: json.dumps(line["loss"]) for line in lines}


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    left = load_newest(run / "checkpoints")
    assert left is not None
    return left.tensors


def equal_bits(a: Path, b: Path) -> bool:
    left, right = weights_of(a), weights_of(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.reliability("18")
def test_a_run_killed_twice_is_the_run(sample_dataset, tmp_path, full, measured):
    steps, kills = (20, (7, 13)) if full else (5, (2,))
    whole, killed = (config_of(tmp_path / name, sample_dataset, steps) for name in ("whole", "killed"))
    assert exit_code(forked(partial(train_on, whole))) == 0
    for step in kills:
        kill_after(killed, step)
    assert exit_code(forked(partial(train_on, killed))) == 0
    want, got = losses_of(whole.run), losses_of(killed.run)
    equal = sum(got.get(step) == loss for step, loss in want.items())
    same = equal_bits(whole.run, killed.run)
    measured(f"{equal} of {steps} losses equal after {len(kills)} kills, all tensors equal: {same}")
    assert equal == len(want) == len(got) == steps
    assert same


@pytest.mark.reliability("17")
def test_two_runs_of_one_seed_are_one(sample_dataset, tmp_path, full, measured):
    steps = 200 if full else 3
    runs = [config_of(tmp_path / name, sample_dataset, steps) for name in ("one", "two")]
    for config in runs:
        assert exit_code(forked(partial(train_on, config))) == 0
    first, second = (losses_of(config.run) for config in runs)
    equal = sum(second.get(step) == loss for step, loss in first.items())
    same = equal_bits(runs[0].run, runs[1].run)
    measured(f"{equal} of {steps} losses equal, all tensors equal: {same}")
    assert equal == len(first) == steps
    assert same
    assert len(set(first.values())) > steps // 2, "losses that never change show nothing"
