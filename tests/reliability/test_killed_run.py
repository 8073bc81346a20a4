"""A training run ended by kill -9 and taken up again, beside one that nothing disturbs, and its twin."""

import os
import signal
import time
from functools import partial

import pytest
from made_states import exit_code, forked
from small_runs import config_of, equal_bits, losses_of, train_alone, train_here

from aqqua.train.settings import PretrainConfig

WAIT_S = 120  # for a step, at most; one takes hundredths of a second


def kill_after(config: PretrainConfig, step: int) -> None:
    """Train in a child until the checkpoint of a step is there, then end it as a power cut would."""
    child, end = forked(partial(train_here, config)), time.monotonic() + WAIT_S
    newest = config.run / "checkpoints"
    while not any(path.name >= f"step-{step:012d}" for path in newest.glob("step-*")):
        assert time.monotonic() < end, f"no checkpoint of step {step}"
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) == -signal.SIGKILL


@pytest.mark.reliability("18")
def test_a_run_killed_twice_is_the_run(sample_dataset, tmp_path, full, measured):
    steps, kills = (20, (7, 13)) if full else (5, (2,))
    whole, killed = (config_of(tmp_path / name, sample_dataset, steps) for name in ("whole", "killed"))
    train_alone(whole)
    for step in kills:
        kill_after(killed, step)
    train_alone(killed)
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
        train_alone(config)
    first, second = (losses_of(config.run) for config in runs)
    equal = sum(second.get(step) == loss for step, loss in first.items())
    same = equal_bits(runs[0].run, runs[1].run)
    measured(f"{equal} of {steps} losses equal, all tensors equal: {same}")
    assert equal == len(first) == steps
    assert same
    assert len(set(first.values())) > steps // 2, "losses that never change show nothing"
