"""Reading ahead: the same blocks whatever the threads do, each read once, within the memory, never stuck."""

import errno
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import numpy as np
import pytest
from damaged_files import damaged_copy
from made_blocks import BLOCK_BYTES, MadeBlocks, damaged

from aqqua.plan.lanes import Blocks, Lane, LaneConfig
from aqqua.store import prefetch, substitute
from aqqua.store.prefetch import BlockReader, ReadConfig, ReaderClosedError
from aqqua.store.read import DamagedError, Dataset
from aqqua.store.split import NAMING
from aqqua.store.substitute import substitutes

LONG_S = 30.0  # what should come at once; reached only when a test fails
Happens = Callable[[int, int], object]
MakeReader = Callable[..., BlockReader]


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


@pytest.fixture
def make_reader() -> Iterator[MakeReader]:
    made = []

    def make(dataset: Dataset, columns: tuple[str, ...] = (), **config: object) -> BlockReader:
        made.append(BlockReader(dataset, ReadConfig.model_validate(config), columns))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substitute, "RETRY_S", (0.01, 0.01))
    monkeypatch.setattr(prefetch, "POLL_S", 0.01)
    monkeypatch.setattr(prefetch, "CLOSE_S", 0.05)


@pytest.fixture
def hang() -> Iterator[Event]:
    """Reads that wait for this hang until the test is over."""
    event = Event()
    yield event
    event.set()


def dawdling(seed: int, then: Happens = lambda *_: None) -> Happens:
    """Every read takes some random time."""
    draw = np.random.default_rng(seed)

    def happens(block: int, before: int) -> None:
        time.sleep(draw.uniform(0, 0.004))
        then(block, before)

    return happens


def walk(reader: BlockReader, order: list[int], ahead: int = 6) -> list[list[int]]:
    """What is served along an order of blocks: keys, bytes and further columns."""
    seen = []
    for i, number in enumerate(order):
        reader.follow(order[i : i + ahead])
        key = reader.sizes(number).key.tolist()
        table = reader.table(number)
        seen.append([*key, int(reader.block(number).data[0]), *table["group"].to_pylist()])
    return seen


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_served_does_not_depend_on_threads_or_time(make_reader, threads, seed):
    order = np.random.default_rng(0).integers(0, 40, 120).tolist()
    bad = [3, 17]
    reader = make_reader(
        MadeBlocks(40, dawdling(seed, damaged(*bad))), ("group",), read_threads=threads, max_bad_share=0.1
    )
    stands = {block: next(o for o in substitutes(block, 40) if o not in bad) for block in bad}
    want = [stands.get(block, block) for block in order]
    assert walk(reader, order) == [[block, block, block] for block in want]
    assert {block: reader.bad(block).replacement for block in bad} == stands
    assert reader.bad(0) is None


@pytest.mark.parametrize("threads", [0, 2])
def test_real_files_are_served_as_they_are_read(make_dataset, make_reader, tmp_path, threads):
    path = make_dataset(640).path
    dataset = Dataset.open(damaged_copy(path, tmp_path / "damaged", [6]))
    reader = make_reader(dataset, NAMING, read_threads=threads)
    reader.follow(range(10))
    for number in range(10):
        bad = reader.bad(number)
        assert (bad is None) == (number != 6)
        source = number if bad is None else bad.replacement
        got, want = reader.block(number), dataset.block(source)
        np.testing.assert_array_equal(got.data, want.data)
        np.testing.assert_array_equal(reader.sizes(number).key, want.sizes.key)
        assert reader.table(number).equals(dataset.table(NAMING, [source]))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_window_is_read_once(make_reader, threads):
    dataset = MadeBlocks(24)
    reader = make_reader(dataset, ("group",), read_threads=threads)
    assert isinstance(reader, Blocks)
    config = LaneConfig(lanes=2, window_blocks=3)
    lanes = [Lane(reader, config, lane, 5, lambda b: np.ones(len(reader.table(b)))) for lane in range(2)]
    for window in range(4):  # one epoch
        coming = [b for ahead in (0, 1) for lane in lanes for b, _ in lane.blocks(min(window + ahead, 3))]
        reader.follow(coming)
        for lane in lanes:
            entries = lane.window(window)
            assert {reader.block(b).sizes.key[0] for b in entries.block_E.tolist()} == set(entries.sizes.key)
    assert dataset.reads == dict.fromkeys(range(24), 1)


def test_what_is_read_ahead_stays_within_the_memory(make_reader):
    dataset = MadeBlocks(100)
    reader = make_reader(dataset, read_threads=3, read_ahead_mb=1)  # ten blocks
    room = 1_000_000 // BLOCK_BYTES
    reader.follow(range(60))
    until(lambda: len(dataset.reads) >= room)
    time.sleep(0.05)  # whoever wanted to read more would have
    assert dataset.reads == dict.fromkeys(range(room), 1)
    assert reader.block(59).sizes.key.tolist() == [59]  # full or not, what is needed now comes
    for block in range(4):  # what is in use leaves room for others
        reader.sizes(block)
    until(lambda: len(dataset.reads) >= room + 5)
    time.sleep(0.05)
    assert dataset.reads == dict.fromkeys([*range(room + 4), 59], 1)
    reader.follow(range(30, 33))  # all others are dropped
    until(lambda: {30, 31, 32} <= dataset.reads.keys())
    reader.sizes(0)
    assert dataset.reads[0] == 2


def test_nothing_is_read_ahead_without_memory_for_it(make_reader):
    dataset = MadeBlocks(20)
    reader = make_reader(dataset, read_ahead_mb=0)
    reader.follow(range(20))
    assert [reader.sizes(block).key[0] for block in range(20)] == list(range(20))
    assert dataset.reads == dict.fromkeys(range(20), 1)


def test_what_is_needed_now_goes_first(make_reader):
    order, first, go = [], Event(), Event()

    def happens(block: int, _before: int) -> None:
        order.append(block)
        first.set()
        assert go.wait(LONG_S)

    reader = make_reader(MadeBlocks(50, happens), read_threads=1)
    reader.follow(range(40))
    assert first.wait(LONG_S)
    asked = Thread(target=reader.block, args=(33,))
    asked.start()
    until(lambda: 33 in reader._shelf._urgent)
    go.set()
    asked.join(LONG_S)
    assert order[:2] == [0, 33]


# Damage, failing and slow disks.


def test_more_damage_than_a_share_ends_it(make_reader):
    bad = [10, 150, 250, 260]
    reader = make_reader(MadeBlocks(1000, damaged(*bad)), max_bad_share=0.01)
    for block in range(250):  # at 10 one of 11: always borne; at 150 two of 151: too many
        if block == 150:
            with pytest.raises(
                DamagedError,
                match=r"1.00% .* got 2 of 151, the last of them: block 150 .* data.max_bad_share",
            ):
                reader.sizes(block)
        else:
            reader.sizes(block)
    patient = make_reader(MadeBlocks(1000, damaged(*bad)), max_bad_share=0.02)
    for block in [*range(250), *range(250)]:  # seen twice is not bad twice
        patient.sizes(block)
        patient.follow([])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("threads", [0, 2])
def test_a_failing_disk_is_an_error_and_no_damage(make_reader, threads):
    broken = True

    def happens(block: int, _before: int) -> None:
        if block == 5 and broken:
            raise OSError(errno.EIO, f"part-00000.parquet row group {block} must be readable")

    reader = make_reader(MadeBlocks(10, happens), read_threads=threads)
    reader.follow(range(10))
    assert [reader.sizes(block).key[0] for block in range(5)] == list(range(5))
    with pytest.raises(OSError, match="row group 5 must be readable") as caught:
        reader.sizes(5)
    assert caught.value.errno == errno.EIO
    assert reader.sizes(6).key[0] == 6
    broken = False
    assert reader.sizes(5).key[0] == 5  # asked again, read again
    assert reader.bad(5) is None


@pytest.mark.usefixtures("quick")
def test_a_slow_disk_is_told_of_once_and_then_given_up(make_reader, monkeypatch, hang):
    monkeypatch.setattr(prefetch, "SLOW_S", 0.02)
    reader = make_reader(MadeBlocks(10, lambda *_: hang.wait(LONG_S)), read_timeout_s=0.2)
    told: list[str] = []
    reader.say = told.append
    pattern = r"made/part-00000.parquet row group 4 must be read within 0.2 s, got nothing in 0 s"
    for _ in range(2):
        with pytest.raises(TimeoutError, match=pattern):
            reader.block(4)
    assert len(told) == 1
    assert "slow disk: waiting for made/part-00000.parquet row group 4 since" in told[0]


# Ends.


@pytest.mark.usefixtures("quick")
def test_close_frees_who_waits(make_reader, hang):
    reader = make_reader(MadeBlocks(10, lambda *_: hang.wait(LONG_S)))
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            reader.block(3)
        except ReaderClosedError as error:
            raised.append(error)

    asking = Thread(target=ask)
    asking.start()
    until(lambda: reader._shelf._reading)
    reader.close()  # returns though the read hangs
    asking.join(LONG_S)
    assert len(raised) == 1
    assert reader.closed
    with pytest.raises(ReaderClosedError, match="must be open"):
        reader.follow([1])
    with pytest.raises(ReaderClosedError):
        reader.sizes(1)


def test_close_ends_the_pause_between_attempts(make_reader):
    def happens(_block: int, _before: int) -> None:
        raise OSError(errno.EIO, "no")

    dataset = MadeBlocks(10, happens)
    reader = make_reader(dataset, read_threads=1)
    reader.follow([0])
    until(lambda: dataset.reads[0])
    threads = reader._shelf._threads
    reader.close()
    until(lambda: not any(thread.is_alive() for thread in threads))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_reader_that_is_forgotten_leaves_no_thread(threads):
    before = set(threading.enumerate())
    reader = BlockReader(MadeBlocks(10), ReadConfig(read_threads=threads))
    reader.follow(range(10))
    reader.block(3)
    assert len(set(threading.enumerate()) - before) == threads
    del reader
    gc.collect()
    until(lambda: not set(threading.enumerate()) - before)


HANGS = """
import sys, time
from aqqua.store.prefetch import BlockReader
from aqqua.store.read import Dataset
reader = BlockReader(Dataset.open(sys.argv[1]))
reader.follow([0, 1, 2])
while not reader._shelf._reading:
    time.sleep(0.001)
if sys.argv[2] == "raises":
    raise KeyError("enough")
"""


@pytest.mark.parametrize(("how", "code"), [("ends", 0), ("raises", 1)])
def test_a_hung_read_does_not_keep_the_interpreter(make_dataset, how, code):
    """A named pipe without a writer: to open it takes for ever."""
    dataset = make_dataset(200)
    part = dataset.path / "part-00000.parquet"
    part.unlink()
    os.mkfifo(part)
    command = [sys.executable, "-c", HANGS, str(dataset.path), how]
    done = subprocess.run(command, capture_output=True, timeout=2 * LONG_S)
    assert done.returncode == code, done.stderr
    assert (b"enough" in done.stderr) == (how == "raises")
    assert b"Fatal" not in done.stderr


def test_many_orders_under_stress(make_reader):
    """Small memory, many threads, an order that repeats itself: nothing is lost, nothing gets stuck."""
    draw = np.random.default_rng(3)
    reader = make_reader(
        MadeBlocks(30, dawdling(4)), ("group",), read_threads=8, read_ahead_mb=1, max_bad_share=1.0
    )
    order = draw.integers(0, 30, 300).tolist()
    assert [seen[0] for seen in walk(reader, order, ahead=25)] == order
