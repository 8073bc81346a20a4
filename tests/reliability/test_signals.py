"""SIGTERM and SIGUSR1 at random moments: a run ends, is saved where it stood, and goes on as if undisturbed.

Runs are taken up again and again; after each signal the checkpoint is compared, bit for bit, with that of the
same step of a run that nothing disturbed. Before a run listens to signals one kills it, as any program; then
there is nothing new to lose.
"""

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from crew import train_on, train_well
from rank_faults import Moment, Signal, noted
from same_run import assert_same_run
from small_runs import config_of, losses_of, train_alone

from aqqua.train.checkpoint import load, load_newest
from aqqua.train.settings import PretrainConfig

STEPS = 30
LIMIT_S = 30.0  # to end; also what a start may take before its signal comes
NUMBERS = (signal.SIGTERM, signal.SIGUSR1)
MOMENTS: tuple[Moment, ...] = ("step", "save", "step", "start", "step")
DELAY_S = {"start": 0.5, "step": 0.08, "save": 0.02}  # at most; a step takes about 0.05 s, a save 0.01 s


@pytest.fixture(scope="module")
def undisturbed(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps the checkpoints of all its steps."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_alone(config_of(folder, sample_dataset, STEPS, train={"keep_checkpoints": STEPS}))
    return folder


def signals(count: int, ranks: int, seed: int, note: Path) -> Iterator[Signal]:
    draw = random.Random(seed)
    for i in range(count):
        moment = MOMENTS[i % len(MOMENTS)]
        again_s = draw.uniform(0.0, 0.03) if draw.random() < 0.3 else None
        yield Signal(
            NUMBERS[draw.randrange(2)], draw.randrange(ranks), moment, draw.randint(1, 2),
            draw.uniform(0, DELAY_S[moment]), again_s, note,
        )  # fmt: skip


@dataclass
class Tally:
    """What signals did to runs."""

    points: int = 0
    twice: int = 0
    before_a_step: int = 0
    hung: int = 0
    not_of_that_step: int = 0
    other_bits: int = 0
    longest_s: float = 0.0
    odd_codes: list[list[int | None]] = field(default_factory=list)

    def add(self, sent: Signal, ranks: int, config: PretrainConfig, undisturbed: Path) -> None:
        """One start that is signalled; a run that ends before its signal comes is no point."""
        sent.note.unlink(missing_ok=True)
        before = len(losses_of(config.run))
        ended = train_on(ranks, config, meddle=sent.meddle, limit_s=2 * LIMIT_S)
        ended_s, sent_s = time.monotonic(), noted(sent.note)
        if sent_s is None:
            return
        self.points += 1
        self.twice += sent.again_s is not None
        self.longest_s = max(self.longest_s, ended_s - sent_s)
        self.hung += None in ended.codes
        losses, newest = losses_of(config.run), load_newest(config.run / "checkpoints")
        reached = len(losses)
        self.before_a_step += reached == before
        if reached > before and ended.codes != [0] * ranks and not _after_the_run(ended.codes, sent):
            self.odd_codes.append(ended.codes)
        if newest is None or newest.step != reached:
            self.not_of_that_step += reached > 0
            return
        want = load(undisturbed / "checkpoints" / f"step-{reached:012d}")
        same = newest.tensors.keys() == want.tensors.keys() and all(
            torch.equal(newest.tensors[name], want.tensors[name]) for name in want.tensors
        )
        expected = {step: loss for step, loss in losses_of(undisturbed).items() if step <= reached}
        self.other_bits += not same or losses != expected


def _after_the_run(codes: list[int | None], sent: Signal) -> bool:
    """A signal between the end of the run and that of its process ends this, as any program."""
    return codes[sent.rank] == -sent.number


@pytest.mark.reliability("4")
@pytest.mark.parametrize(("ranks", "count"), [(1, 30), (2, 20)], ids=["alone", "two ranks"])
def test_signals_at_random_moments(sample_dataset, undisturbed, tmp_path, full, measured, ranks, count):
    count = count if full else 2
    tally, runs, note = Tally(), 0, tmp_path / "sent"
    config = undisturbed_config(tmp_path, sample_dataset, runs)
    for sent in signals(10 * count, ranks, ranks, note):
        if tally.points == count:
            break
        if len(losses_of(config.run)) == STEPS:
            runs += 1
            config = undisturbed_config(tmp_path, sample_dataset, runs)
        tally.add(sent, ranks, config, undisturbed)
    train_well(ranks, config)
    measured(
        f"{'alone' if ranks == 1 else '2 ranks, one of them signalled'}: {tally.points} signals, "
        f"{tally.twice} of them twice, {tally.before_a_step} before a step: longest exit "
        f"{tally.longest_s:.1f} s, "
        f"{tally.not_of_that_step} without a checkpoint of that step, {tally.other_bits} with other bits"
    )
    assert tally.points == count
    assert (tally.hung, tally.odd_codes, tally.not_of_that_step, tally.other_bits) == (0, [], 0, 0)
    assert tally.longest_s <= LIMIT_S
    assert_same_run(config.run, undisturbed)


def undisturbed_config(folder: Path, dataset: Path, number: int) -> PretrainConfig:
    """Of one that saves at every third step only, so that most checkpoints are the signal's."""
    return config_of(
        folder / f"run{number}",
        dataset,
        STEPS,
        train={"checkpoint_every": 3, "timeout_s": 3, "keep_checkpoints": 2},
    )
