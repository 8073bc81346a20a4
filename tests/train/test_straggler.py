"""The rank that the others wait for is named, whatever they wait in."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from crew import train_on

from aqqua.train import loop, straggler
from aqqua.train.data import StepData
from aqqua.train.ranks import Place, Ranks
from aqqua.train.run import Run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, take_step
from aqqua.train.straggler import Stragglers, factors

CPU = torch.device("cpu")
SLEEP_S = 0.4  # many times a step of the tiny model


def test_each_is_compared_with_the_median_of_the_others():
    assert factors([1.0, 3.0]) == [pytest.approx(1 / 3), 3.0]
    assert factors([1.0, 10.0, 2.0, 2.0]) == [0.5, 5.0, 1.0, 1.0]
    assert factors([1.0, 0.0]) == [1e6, 0.0]  # the other needs less than a microsecond


class Told(Ranks):
    """Rank 0 of several, whose peers need the seconds they are told to need."""

    def __init__(self, *others_s: float) -> None:
        super().__init__(Place(0, 1 + len(others_s)))
        self.others_s, self.tables = list(others_s), 0

    def table(self, numbers):
        self.tables += 1
        return [list(numbers), *([round(s * 1e6)] for s in self.others_s)]

    def gather(self, value):
        assert value
        return [f"host{rank}" for rank in range(self.size)]


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(straggler.time, "monotonic", lambda: self.now)


def steps(found: Stragglers, clock: Clock, ranks: Ranks, own_s: float, count: int = 10) -> list[str]:
    """Steps of which this rank needs `own_s` by itself, waits, and trains on; what is said then."""
    said: list[str] = []
    for _ in range(count):
        found.begin()
        clock.now += own_s / 2
        found.forward()
        clock.now += own_s / 2 + 7.0
        ranks.waited_s += 7.0  # for others, before the first exchange is due
        found.exchange()
        clock.now += 50.0  # exchanges, backward, checkpoint
    found.compare(said.append)
    return said


def test_a_slow_rank_is_named_once_until_it_recovers(monkeypatch):
    clock, ranks = Clock(monkeypatch), Told(1.0, 1.0, 1.0)
    found = Stragglers(ranks, CPU)
    assert steps(found, clock, ranks, 1.4) == []
    assert found.numbers == {"slowest_rank": 0, "slowest_factor": pytest.approx(1.4)}
    assert [line[:30] for line in steps(found, clock, ranks, 10.0)] == ["rank 0 on host0 is slow: the o"]
    assert steps(found, clock, ranks, 10.0) == []
    assert steps(found, clock, ranks, 1.0) == []
    ranks.others_s[2] = 2.0
    (line,) = steps(found, clock, ranks, 1.0)
    assert line.startswith("rank 3 on host3 is slow")
    assert "2.0 times" in line
    assert ranks.tables == 5  # one number of each in a window


def test_the_first_step_and_a_few_milliseconds_do_not_count(monkeypatch):
    clock, ranks = Clock(monkeypatch), Told(0.004, 0.004)
    found = Stragglers(ranks, CPU)
    assert steps(found, clock, ranks, 99.0, count=1) == []  # compiles, allocates
    assert found.numbers == {}
    assert steps(found, clock, ranks, 0.013) == []  # 9 ms behind
    assert found.numbers["slowest_rank"] == 0
    assert len(steps(found, clock, ranks, 0.015)) == 1


def test_alone_nothing_is_measured():
    ranks = Ranks()
    found = Stragglers(ranks, CPU)
    found.begin()
    found.forward()
    found.exchange()
    found.compare(pytest.fail)
    assert found.numbers == {}


def test_on_a_gpu_the_forward_pass_is_timed_on_the_device(monkeypatch):
    """The host is through at once; what counts is its time before, and the events'."""
    clock, ranks, log = Clock(monkeypatch), Told(1.0, 1.0), []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, _end: "Event") -> float:
            return 2500.0  # ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    found = Stragglers(ranks, SimpleNamespace(type="cuda"))  # type: ignore[arg-type]
    for _ in range(5):
        found.begin()
        clock.now += 0.5
        found.forward()
        clock.now += 9.0  # the host waits for the device, or not: of no account
        found.exchange()
    assert "wait" not in log
    said: list[str] = []
    found.compare(said.append)
    assert found.numbers == {"slowest_rank": 0, "slowest_factor": pytest.approx(3.0)}
    assert len(said) == 1


def slow_from_step_6(slow: int) -> Callable[[int], None]:
    def meddle(rank: int) -> None:
        def meddled(run: Run, data: StepData, rates: Rates) -> Outcome:
            if rank == slow and run.step >= 5:
                time.sleep(SLEEP_S)
            return take_step(run, data, rates)

        loop.take_step = meddled

    return meddle


slow_rank_0, slow_rank_1, slow_rank_2 = map(slow_from_step_6, range(3))


def slow_0(rank: int) -> None:
    slow_rank_0(rank)


def slow_1(rank: int) -> None:
    slow_rank_1(rank)


def slow_2(rank: int) -> None:
    slow_rank_2(rank)


@pytest.mark.parametrize(
    ("ranks", "meddle", "slow", "train"),
    [
        (2, slow_0, 0, {}),
        (2, slow_1, 1, {"engine": "zero", "deterministic": False, "zero": {"stage": 2}}),
        (4, slow_2, 2, {}),
    ],
    ids=["of two", "of two with ZeRO", "of four"],
)
def test_a_slow_rank_is_named_within_20_steps(
    make_config: Callable[..., PretrainConfig],
    tmp_path: Path,
    ranks: int,
    meddle: Callable[[int], None],
    slow: int,
    train: dict[str, Any],
) -> None:
    if train:
        pytest.importorskip("deepspeed")
    common = {"images": 8000, "max_steps": 20, "log_every": 10, "timeout_s": 60}
    config = make_config(tmp_path / "run", data={"lanes": 4}, train={**common, **train})
    ended = train_on(ranks, config, meddle=meddle)
    assert ended.codes == [0] * ranks, "\n".join(ended.said)
    said = " ".join(ended.said[0].split())
    assert said.count(f"rank {slow} on ") == said.count("is slow: the others wait") == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["slowest_rank"] for row in rows] == [slow, slow]
    assert rows[-1]["slowest_factor"] > 3
