"""Reading, planning and rendering side by side: the same steps whatever the disk does, or a clear end."""

import errno
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_files import damaged_copy
from same_run import numbers

from aqqua.store import substitute
from aqqua.store.read import Dataset
from aqqua.store.shelf import ReaderClosedError
from aqqua.store.substitute import substitutes
from aqqua.train import checkpoint
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder, StepData
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.loop import pretrain
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import image_ids

MakeConfig = Callable[..., PretrainConfig]
BAD = 3  # of the dataset's five blocks
PLANNED_READS = 5  # for the first steps: four blocks for the estimate, one of them again


@pytest.fixture(scope="module")
def bad_dataset(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damaged_copy(dataset, tmp_path_factory.mktemp("bad") / "blobs", [BAD])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each block is read with its pixels; every read takes some random time."""
    count: Counter[int] = Counter()
    real, draw = Dataset.block_with, np.random.default_rng(0)

    def slowly(self: Dataset, block: int, columns: Sequence[str]) -> Any:
        count[block] += 1
        time.sleep(draw.uniform(0, 0.01))
        return real(self, block, columns)

    monkeypatch.setattr(Dataset, "block_with", slowly)
    return count


def fail_from(monkeypatch: pytest.MonkeyPatch, number: int, fail: Callable[[int], object]) -> None:
    """From the read of this number on, `fail` is called with the block before it is read."""
    real, numbers_of_reads = Dataset.block_with, iter(range(10**6))

    def read(self: Dataset, block: int, columns: Sequence[str]) -> Any:
        if next(numbers_of_reads) >= number:
            fail(block)
        return real(self, block, columns)

    monkeypatch.setattr(Dataset, "block_with", read)


def feeder(config: PretrainConfig, rank: int = 0, ranks: int = 1) -> Feeder:
    rooms = (
        Dataset.open(config.data.path),
        config.data,
        config.views,
        config.masks,
        Shape.of(config.model, config.views, torch.float32),
    )
    return Feeder(*rooms, seed=config.seed, rank=rank, ranks=ranks)


def content(data: StepData) -> list[Any]:
    """All that the model gets, and where it came from."""
    return [
        *(batch.patches_NF.numpy().tobytes() for batch in data.batches),
        *((pack.block_I.tolist(), pack.row_I.tolist(), pack.sizes.key.tolist()) for pack in data.packs),
        data.states, data.bad_blocks,
    ]  # fmt: skip


def test_steps_do_not_depend_on_threads_memory_or_time(make_config, bad_dataset, tmp_path, reads):
    def steps(**data: Any) -> list[list[Any]]:
        one = feeder(make_config(tmp_path, data={"path": bad_dataset, "max_bad_share": 1.0, **data}))
        with torch.no_grad():
            found = [content(step) for step in islice(one.steps(one.start(), 0), 8)]
        return found

    want = steps(read_threads=0, prefetch=False)
    assert any(step[-1] for step in want)
    for data in ({}, {"read_threads": 5}, {"read_threads": 1, "read_ahead_mb": 0}, {"prefetch": False}):
        assert steps(**data) == want
    assert reads[BAD] > 0


def test_what_stands_for_a_bad_block_is_said_and_true(make_config, bad_dataset, tmp_path):
    config = make_config(tmp_path, data={"path": bad_dataset, "holdout": 0.0})
    one, dataset = feeder(config), Dataset.open(config.data.path)
    data = next(d for d in islice(one.steps(one.start(), 0), 20) if d.bad_blocks)
    (bad,) = data.bad_blocks
    assert (bad.block, bad.replacement) == (BAD, next(substitutes(BAD, dataset.blocks)))
    assert (bad.file, bad.row_group) == dataset.place(BAD)
    for pack in data.packs:
        assert BAD not in pack.block_I
        for block, row, key in zip(pack.block_I.tolist(), pack.row_I.tolist(), pack.sizes.key, strict=True):
            assert dataset.sizes(block).key[row] == key


def test_each_block_is_read_once_for_its_window(make_config, tmp_path, reads):
    """300 images are five blocks; one lane comes to each of them once in an epoch."""
    one = feeder(make_config(tmp_path, data={"lanes": 1, "holdout": 0.0}))
    used: set[int] = set()
    for data in one.steps(one.start(), 0):
        used |= {block for pack in data.packs for block in pack.block_I.tolist()}
        if data.states[0].window >= 4:
            break
    assert len(used) == 5
    assert set(reads) == used
    assert max(reads.values()) <= 2  # an epoch, and what is read ahead of the next one


def test_two_ranks_bear_a_bad_block_as_one_does(make_config, bad_dataset, tmp_path):
    config = make_config(tmp_path, data={"path": bad_dataset, "lanes": 4, "max_bad_share": 1.0})
    alone, pair = feeder(config), [feeder(config, rank=r, ranks=2) for r in (0, 1)]
    assert {one.images_per_step() for one in (alone, *pair)} == {alone.images_per_step()}
    states, pair_states, bad = alone.start(), [one.start() for one in pair], set()
    for step in range(4):
        whole = alone.step(states, step)
        halves = [one.step(s, step) for one, s in zip(pair, pair_states, strict=True)]
        states, pair_states = whole.states, [half.states for half in halves]
        of_lane = {
            lane: half.batches[i].patches_NF
            for one, half in zip(pair, halves, strict=True)
            for i, lane in enumerate(one.packers)
        }
        for lane, batch in zip(alone.packers, whole.batches, strict=True):
            assert torch.equal(of_lane[lane], batch.patches_NF)
        bad |= set(whole.bad_blocks)
        assert {b for half in halves for b in half.bad_blocks} == set(whole.bad_blocks)
    assert [one.block for one in bad] == [BAD]


def test_a_run_with_a_bad_block_resumes_exactly(make_config, bad_dataset, tmp_path, capsys):
    def run(folder: Path, steps: int, **data: Any) -> None:
        room = {"path": bad_dataset, **data}
        pretrain(make_config(folder, data=room, train={"max_steps": steps}))

    run(tmp_path / "whole", 9)
    said = capsys.readouterr().err
    assert said.count(f"block {BAD} is damaged, block ") == 1
    noted = [json.loads(line) for line in (tmp_path / "whole" / "bad_blocks.jsonl").read_text().splitlines()]
    assert [row["block"] for row in noted] == [BAD]
    assert set(noted[0]) == {"step", "block", "file", "row_group", "error", "replacement"}
    rows = numbers(tmp_path / "whole")
    assert [row["bad_blocks"] for row in rows] == [int(row["step"] >= noted[0]["step"]) for row in rows]
    for cut in (noted[0]["step"] - 1, noted[0]["step"]):
        folder = tmp_path / f"cut{cut}"
        for steps in (cut, 9):
            if steps:
                run(folder, steps, read_threads=1, prefetch=steps == 9)
        assert numbers(folder) == rows
        assert (folder / "bad_blocks.jsonl").read_text() == (
            tmp_path / "whole" / "bad_blocks.jsonl"
        ).read_text()
        got, want = (checkpoint.load_newest(one / CHECKPOINTS) for one in (folder, tmp_path / "whole"))
        assert got is not None
        assert want is not None
        assert all(torch.equal(got.tensors[name], want.tensors[name]) for name in want.tensors)


def test_the_ids_of_replaced_images_are_their_own(make_config, bad_dataset, tmp_path):
    run = pretrain(make_config(tmp_path, data={"path": bad_dataset}, train={"max_steps": 1}))
    one = feeder(run.config)
    for data in islice(one.steps(one.start(), 0), 9):
        ids = image_ids(run, data)
        keys = [key for pack in data.packs for key in pack.sizes.key.tolist()]
        table = run.dataset.table(["image_id", "key"])
        name_of = dict(zip(table["key"].to_pylist(), table["image_id"].to_pylist(), strict=True))
        assert ids == [name_of[key] for key in keys]


@pytest.mark.parametrize("prefetch", [True, False])
def test_a_signal_ends_a_run_that_waits_for_the_disk(make_config, tmp_path, monkeypatch, prefetch):
    hangs, over = threading.Event(), threading.Event()

    def hang(_block: int) -> None:
        hangs.set()
        over.wait(60)

    def interrupt() -> None:
        hangs.wait(60)
        time.sleep(0.3)  # the steps that need no new block are over
        os.kill(os.getpid(), signal.SIGTERM)

    fail_from(monkeypatch, PLANNED_READS, hang)
    threading.Thread(target=interrupt).start()
    data = {"prefetch": prefetch, "read_ahead_mb": 0}
    run = pretrain(make_config(tmp_path, data=data, train={"images": 10**6}))
    over.set()
    assert hangs.is_set()
    found = checkpoint.load_newest(tmp_path / CHECKPOINTS)
    assert found is not None
    assert found.step == run.step > 0


def test_a_disk_that_fails_ends_a_run_without_loss(make_config, tmp_path, monkeypatch):
    def fail(block: int) -> None:
        raise OSError(errno.EIO, f"row group {block} must be readable")

    monkeypatch.setattr(substitute, "RETRY_S", (0.01,))
    config = make_config(tmp_path, data={"read_ahead_mb": 0})
    with monkeypatch.context() as patch:
        fail_from(patch, PLANNED_READS, fail)
        with pytest.raises(OSError, match=r"row group \d must be readable \(2 attempts"):
            pretrain(config)
    found = checkpoint.load_newest(tmp_path / CHECKPOINTS)
    assert found is not None
    assert found.step == numbers(tmp_path)[-1]["step"] > 0
    assert pretrain(config).done  # the disk is mended


def test_a_feeder_ends_with_its_steps(make_config, tmp_path):
    before = set(threading.enumerate())
    one = feeder(make_config(tmp_path))
    steps = one.steps(one.start(), 0)
    next(steps)
    steps.close()
    assert one.reader.closed
    assert set(threading.enumerate()) == before
    with pytest.raises(ReaderClosedError):
        one.step(one.start(), 0)
