"""The same work by one process, by several, and by Ray."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest

from aqqua.spread import Beside, Engine, cores, spread


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


def here(_part: int) -> str:
    return str(Path.cwd())


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


@dataclass(frozen=True)
class Counting:
    """Tells how often its worker was handed a new thing that parts share, and what came of the part."""

    def __call__(self) -> Callable[[Beside], tuple[int, int, int]]:
        seen: list[object] = []

        def work(part: Beside) -> tuple[int, int, int]:
            if not any(part.shared is one for one in seen):
                seen.append(part.shared)
            return len(seen), sum(part.shared) + part.part, os.getpid()

        return work


def die(_part: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_parts_share_is_given_with_each(workers):
    first, second = [1, 2], [10, 20]
    parts = [Beside(first, 1), Beside(first, 2), Beside(second, 3)]
    found = list(spread(Counting(), parts, Engine(workers=workers)))
    assert sorted(value for _, value, _ in found) == [4, 5, 33]


def test_a_worker_that_dies_ends_the_work():
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        list(spread(partial(made, die), range(3), Engine(workers=2)))


def test_threads_are_as_many_as_asked_for_but_no_more_than_cores():
    assert Engine().threads == 1
    assert Engine(name="ray", workers=5000).threads == cores()


def test_ray_does_the_same(ray_cluster):
    found = list(spread(Square(7), range(6), ray_cluster))
    assert sorted((part, value) for part, value, _ in found) == [(n, n * n + 7) for n in range(6)]
    assert os.getpid() not in {pid for *_, pid in found}


def test_ray_takes_parts_as_they_come_and_carries_what_they_share_once(ray_cluster):
    listed = []

    def parts():
        for shared in ([1, 2], [10, 20]):
            for n in range(8):
                listed.append(n)
                yield Beside(shared, n)

    answers = spread(Counting(), parts(), ray_cluster)
    first = next(answers)
    assert len(listed) < 16
    found = [first, *answers]
    assert sorted(value for _, value, _ in found) == [*(3 + n for n in range(8)), *(30 + n for n in range(8))]
    for who in {pid for *_, pid in found}:
        assert max(seen for seen, _, pid in found if pid == who) <= 2


@pytest.mark.parametrize(
    ("work", "error", "said"), [(fail, ValueError, "^part 3 is bad$"), (die, RuntimeError, "must stay alive")]
)
def test_what_goes_wrong_on_ray_is_said(ray_cluster, work, error, said):
    with pytest.raises(error, match=said):
        list(spread(partial(made, work), range(8), ray_cluster))


def test_names_of_files_mean_the_same_on_ray(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(spread(partial(made, here), range(2), ray_cluster)) == {str(tmp_path)}
