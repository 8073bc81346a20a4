"""A rank is killed, stopped, starved of data or hangs: all others end in time, name it, and the run goes on.

How long they may take: a killed rank is known at once, a stopped one after the longest silence
(train.timeout_s), a starved one after the patience with a disk (data.read_timeout_s), one that beats but does
not come after both. A slow rank is none of these: nothing ends.
"""

import random
import time
from pathlib import Path

import numpy as np
import pytest
from crew import Ended, train_on, train_well
from rank_faults import Loss, LossKind, noted, slow_on_rank_1
from same_run import assert_same_run
from small_runs import config_of, train_alone

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.write import ingest
from aqqua.train.settings import PretrainConfig

STEPS, LANES = 7, 6  # lanes of 1, 2 and 3 ranks
TIMEOUT_S, READ_TIMEOUT_S, GRACE_S = 3.0, 3.0, 2.0
WAIT_S: dict[LossKind, float] = {
    "killed": TIMEOUT_S,
    "stopped": TIMEOUT_S,
    "starved": READ_TIMEOUT_S,
    "hung": TIMEOUT_S + READ_TIMEOUT_S,
}
HANG_S = 60.0  # after this a rank that has not ended is called hanging


class Noise:
    """Pixels that nobody looks at."""

    def load(self, _tree: Tree) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 255, (24, 24), np.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of so many small blocks that every step needs some which are not yet read."""
    folder = tmp_path_factory.mktemp("data") / "noise"
    records = (
        Record(
            object_id=f"noise{i}", pixels=Noise(), instrument="IFCB", um_per_px=0.3, sample="s", group=f"g{i}"
        )
        for i in range(800)
    )
    ingest([(Tree(root=Path("noise"), label="noise"), records)], folder, block_rows=8, workers=1)
    return folder


def config_for(run: Path, dataset: Path, read_timeout_s: float = 600.0) -> PretrainConfig:
    data = {"lanes": LANES, "pack_tokens": 400, "read_timeout_s": read_timeout_s, "read_ahead_mb": 0}
    return config_of(run, dataset, STEPS, data=data, train={"timeout_s": TIMEOUT_S})


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_alone(config_for(folder, dataset))
    return folder


def losses(count: int, folder: Path) -> list[tuple[int, Loss]]:
    """(ranks, how one of them is lost): all ways in turn, of 2 and of 3 ranks, any rank, any step."""
    draw, found = random.Random(10), []
    for number in range(count):
        ranks, kind = 2 + number // len(WAIT_S) % 2, [*WAIT_S][number % len(WAIT_S)]
        found.append((ranks, Loss(kind, draw.randrange(ranks), draw.randint(2, 4), folder / f"lost{number}")))
    return found


def problems_of(ended: Ended, lost: Loss) -> list[str]:
    """What is not as it must be."""
    others = [rank for rank in range(len(ended.codes)) if rank != lost.rank]
    ends = [ended.codes[rank] for rank in others]
    if lost.kind in ("starved", "hung"):  # these live, and end too
        ends.append(ended.codes[lost.rank])
    named = [rank for rank in others if f"rank {lost.rank}" in ended.said[rank]]
    found = [f"codes {ended.codes}"] if None in ends or 0 in ends else []
    found += [f"named by ranks {named} only"] if named != others else []
    if lost.kind == "starved" and "must be read within" not in ended.said[lost.rank]:
        found.append("it does not say why")
    return [f"{lost.kind}: {problem}: {ended.said}" for problem in found]


@pytest.mark.reliability("10")
def test_a_lost_rank_ends_all_in_time_and_is_named(dataset, undisturbed, tmp_path, full, measured):
    cases, problems, over = losses(20 if full else 2, tmp_path), [], dict[LossKind, float]()
    late = 0
    for number, (ranks, lost) in enumerate(cases):
        run = tmp_path / f"run{number}"
        config = config_for(run, dataset, READ_TIMEOUT_S)
        ended = train_on(
            ranks,
            config,
            meddle=lost.meddle,
            limit_s=HANG_S,
            lost=lost.rank if lost.kind == "stopped" else None,
        )
        ended_s, lost_s = time.monotonic(), noted(lost.note)
        assert lost_s is not None, ended
        problems += problems_of(ended, lost)
        over[lost.kind] = max(over.get(lost.kind, 0.0), ended_s - lost_s)
        late += ended_s - lost_s > WAIT_S[lost.kind] + GRACE_S
        train_alone(config_for(run, dataset))
        assert_same_run(run, undisturbed)
    longest = ", ".join(f"{kind} {seconds:.1f} of {WAIT_S[kind]:g} s" for kind, seconds in over.items())
    measured(
        f"{len(cases)} ranks lost: {len(problems)} not ended or not named, {late} later than limit + 2 s; "
        f"longest until all had ended: {longest}; all {len(cases)} runs went on to the same end"
    )
    assert problems == []
    if full:  # a clock is no condition of a test in passing
        assert late == 0


@pytest.mark.reliability("10")
def test_a_slow_rank_ends_nothing(dataset, undisturbed, tmp_path, measured):
    config = config_for(tmp_path / "run", dataset)
    train_well(2, config, meddle=slow_on_rank_1)
    assert_same_run(config.run, undisturbed)
    measured("a rank ten times as slow ends nothing and changes no bit")
