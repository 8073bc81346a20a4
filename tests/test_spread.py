"""The same work by one process, by several, and by Ray."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aqqua.spread import Engine, spread


@dataclass(frozen=True)
class Square:
    """Tells which process worked, and how often that one began."""

    offset: int

    def __call__(self) -> Callable[[int], list[int]]:
        begun = [0]

        def work(part: int) -> list[int]:
            begun[0] += 1
            return [part, part * part + self.offset, os.getpid()]

        return work


def fail(part: int) -> int:
    if part == 3:
        raise ValueError("part 3 is bad")
    return part


def made(work: Callable[[int], int]) -> Callable[[int], int]:
    return work


@pytest.mark.parametrize("workers", [1, 2])
def test_every_part_is_done_once(workers):
    found = list(spread(Square(7), range(20), Engine(workers=workers)))
    assert sorted((part, value) for part, value, _ in found) == [(n, n * n + 7) for n in range(20)]
    who = {pid for *_, pid in found}
    assert (who == {os.getpid()}) == (workers == 1)
    assert len(who) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_the_work(workers):
    with pytest.raises(ValueError, match="part 3 is bad"):
        list(spread(partial(made, fail), range(8), Engine(workers=workers)))


def test_parts_may_have_no_end():
    found = spread(Square(0), count(), Engine(workers=2))
    assert len(list(islice(found, 5))) == 5
    found.close()


def test_ray_does_the_same(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'aqqua[ray]'")
    folder = TemporaryDirectory(prefix="ray-")  # short: the path of a socket has at most 107 bytes
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, logging_level="error",
        _temp_dir=folder.name, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )  # fmt: skip
    try:
        found = list(spread(Square(7), range(6), Engine(name="ray", workers=2)))
    finally:
        ray.shutdown()
        folder.cleanup()
    assert sorted((part, value) for part, value, _ in found) == [(n, n * n + 7) for n in range(6)]
    assert os.getpid() not in {pid for *_, pid in found}
