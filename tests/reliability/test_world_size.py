"""The number of ranks changes at every resume: same bits in deterministic mode, hardly others in normal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from crew import train_well
from same_run import assert_same_checkpoint
from small_runs import config_of, equal_bits, losses_of, train_alone

from aqqua.train.settings import PretrainConfig

SIZES = {"1→2→1": (1, 2, 1), "2→1→2→4": (2, 1, 2, 4)}
CLOSE = 1e-6


def config(folder: Path, dataset: Path, steps: int, **train: Any) -> PretrainConfig:
    rooms = {"data": {"lanes": 4, "pack_tokens": 1000}, "train": {"checkpoint_every": 100, **train}}
    return config_of(folder, dataset, steps, **rooms)


def train_in_turn(folder: Path, dataset: Path, sizes: Sequence[int], steps: int, **train: Any) -> None:
    """As many steps with each number of ranks, about."""
    for part, ranks in enumerate(sizes, 1):
        train_well(ranks, config(folder, dataset, round(steps * part / len(sizes)), **train))


def totals(run: Path) -> list[float]:
    return [json.loads(loss)["total"] for _, loss in sorted(losses_of(run).items())]


@pytest.mark.reliability("6")
def test_in_deterministic_mode_no_bit_shows_it(sample_dataset, tmp_path, full, measured):
    steps = 20 if full else 6
    train_alone(config(tmp_path / "alone", sample_dataset, steps))
    want, said, good = losses_of(tmp_path / "alone"), [], []
    for number, (name, sizes) in enumerate(SIZES.items() if full else [*SIZES.items()][:1]):
        run = tmp_path / f"run{number}"
        train_in_turn(run, sample_dataset, sizes, steps)
        got, same = losses_of(run), equal_bits(run, tmp_path / "alone")
        equal = sum(got.get(step) == loss for step, loss in want.items())
        said.append(f"{name} ranks {equal} of {steps} losses, all tensors equal: {same}")
        good.append(equal == steps == len(got) and same)
        assert_same_checkpoint(run, tmp_path / "alone")
    measured(f"deterministic: {'; '.join(said)}")
    assert all(good)
    assert len(set(want.values())) == steps, "losses that never change show nothing"


@pytest.mark.reliability("6")
def test_in_normal_mode_the_losses_stay_within_a_millionth(sample_dataset, tmp_path, full, measured):
    steps, normal = 60 if full else 6, {"deterministic": False}
    train_alone(config(tmp_path / "alone", sample_dataset, steps, **normal))
    want, apart = totals(tmp_path / "alone"), {}
    for number, (name, sizes) in enumerate(SIZES.items() if full else [*SIZES.items()][:1]):
        run = tmp_path / f"run{number}"
        train_in_turn(run, sample_dataset, sizes, steps, **normal)
        apart[name] = max(abs(a - b) for a, b in zip(totals(run), want, strict=True))
    figures = ", ".join(f"{name} {worst:.1e}" for name, worst in apart.items())
    measured(f"normal: largest |Δloss| in {steps} steps {figures}")
    assert len(want) == steps
    assert max(apart.values()) <= CLOSE
