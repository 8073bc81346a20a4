"""A disk of which one read in ten fails: read again after a pause, never taken for damage or other data."""

import errno
import random

import numpy as np
import pytest
from fuzz_targets import Stored

from aqqua.store.open_parts import OpenParts
from aqqua.store.read import Dataset
from aqqua.store.substitute import RETRY_S, read_served

FAILURES = (errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EIO)


@pytest.mark.reliability("20")
def test_reads_that_fail_at_random_end_right_or_are_told(tmp_path, full, measured, monkeypatch):
    draw, reads, share = random.Random(20), 10_000 if full else 200, 0.1
    dataset = Dataset.open(Stored(tmp_path).path)
    want = [dataset.files_with(number, ())[0].data.copy() for number in range(dataset.blocks)]
    opened = OpenParts.file

    def flaky(self: OpenParts, name: str) -> object:
        if draw.random() < share:
            raise OSError(draw.choice(FAILURES), "made to fail")
        return opened(self, name)

    monkeypatch.setattr(OpenParts, "file", flaky)
    wrong = given_up = paused = most = 0
    for _ in range(reads):
        block, pauses = draw.randrange(dataset.blocks), list[float]()
        try:
            served = read_served(dataset, block, pause=pauses.append, files=True)
            wrong += served.bad is not None or not np.array_equal(served.block.data, want[block])
        except OSError:
            given_up += 1
        paused += bool(pauses)
        most = max(most, len(pauses) + 1)
        assert tuple(pauses) == RETRY_S[: len(pauses)]
    measured(f"{reads} reads: {wrong} wrong, {paused} tried again, at most {most} tries, {given_up} given up")
    assert wrong == 0
    assert 2 <= most <= 5
    assert given_up <= 5 * reads * share ** (len(RETRY_S) + 1) + 1
