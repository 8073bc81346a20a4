"""Signs of life, with a store and a clock made by hand: who is silent, who failed, who is late."""

import json

import pytest

from aqqua.train.heartbeat import LONGEST_S, Heartbeat

TIMEOUT_S = 10.0


class HandStore:
    """A store that can break."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.broken = False

    def set(self, key: str, value: str, /) -> None:
        self._check()
        self.values[key] = value.encode()

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        self._check()
        return [self.values[key] for key in keys]

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError("Connection reset by peer")


class Table:
    """Three ranks around one store and one clock."""

    def __init__(self) -> None:
        self.now, self.store = 100.0, HandStore()
        self.left: list[str] = []
        self.ranks = [
            Heartbeat(
                self.store, rank, 3, TIMEOUT_S,
                leave=self.left.append, clock=lambda: self.now, pause=self.pass_time,
            )
            for rank in range(3)
        ]  # fmt: skip

    def pass_time(self, seconds: float, talking: tuple[int, ...] = (0, 1, 2)) -> None:
        for _ in range(max(int(seconds), 1)):
            self.now += min(seconds, 1.0)
            for rank in talking:
                self.ranks[rank].talk()

    def verdicts(self, longest_s: float = TIMEOUT_S) -> list[str | None]:
        return [rank.lost(longest_s) for rank in self.ranks]


@pytest.fixture
def table() -> Table:
    return Table()


def test_nothing_is_said_while_all_talk(table):
    table.pass_time(100)
    assert table.verdicts() == [None, None, None]


def test_a_silent_rank_is_named_once_the_time_is_over(table):
    table.pass_time(20)
    table.pass_time(10, talking=(0, 2))
    assert table.verdicts()[0] is None
    table.pass_time(2, talking=(0, 2))  # a beat is heard a second later by whoever listened before it
    assert all("rank 1 on " in str(table.verdicts()[rank]) for rank in (0, 2))
    assert "silent since 11.0 s" in str(table.verdicts()[0])


def test_a_rank_that_fails_is_named_at_once_with_its_reason(table):
    table.ranks[2].stop("OSError: the disk is gone")
    table.pass_time(1, talking=(0, 1))
    assert "rank 2 on " in str(table.verdicts()[0])
    assert "OSError: the disk is gone" in str(table.verdicts()[1])


def test_a_rank_that_left_is_not_missed(table):
    table.ranks[2].stop()
    table.pass_time(100, talking=(0, 1))
    assert table.verdicts()[:2] == [None, None]


def test_a_store_that_breaks_or_hangs_is_the_one_to_blame(table):
    table.pass_time(5)
    table.store.broken = True
    table.pass_time(1)
    assert all(
        "keeps the store" in str(said) and "Connection reset" in str(said) for said in table.verdicts()
    )
    hanging = Table()
    hanging.now += TIMEOUT_S + 1  # no call came back
    assert all("keeps the store" in str(said) for said in hanging.verdicts())


def test_who_is_late_for_a_call_is_named(table):
    table.ranks[0].calls = table.ranks[2].calls = 7
    table.ranks[1].calls = 6
    assert "rank 1 on " in table.ranks[0].blame()
    assert "alive but late" in table.ranks[2].blame()
    table.ranks[1].calls = 7
    assert table.ranks[0].blame() == "the connection between ranks failed"


def test_the_threads_end_the_process_with_a_sentence_and_stop_when_asked():
    left: list[str] = []
    store = HandStore()
    beats = [Heartbeat(store, rank, 2, 2.0, leave=left.append) for rank in (0, 1)]
    beats[0].start()
    beats[0]._threads[1].join(5)  # rank 1 never talks
    assert left
    assert "rank 0: rank 1 on " in left[0]
    beats[0].stop()
    assert not any(thread.is_alive() for thread in beats[0]._threads)
    assert json.loads(store.values["beat/0"])["left"] is True


def test_beats_are_often_enough_for_any_time_limit():
    for timeout_s in (2.0, 30.0, 600.0):
        every_s = Heartbeat(HandStore(), 0, 1, timeout_s).every_s
        assert every_s <= min(timeout_s / 20 + 1e-9, LONGEST_S)
