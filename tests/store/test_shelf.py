"""The shelf of a reader: bounded memory, who waits is served, and it always ends."""

import errno
import gc
import os
import subprocess
import sys
import threading
import time
from threading import Event, Thread

import pytest
from made_blocks import BLOCK_BYTES, LONG_S, MadeBlocks, until

from aqqua.store.prefetch import BlockReader, ReadConfig
from aqqua.store.shelf import ReaderClosedError
from aqqua.store.substitute import read_served


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
    time.sleep(0.05)  # whoever wanted to read would have
    assert not dataset.reads
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


def test_blocks_being_read_count_with_the_bytes_they_will_take(make_reader, hang):
    """The manifest says 100 kB on average; the first ones are two hundred times as large."""

    def measure(block: int) -> int:
        time.sleep(0.005 * block)  # were all measured at once, the last one had the room to itself
        return dataset.bytes_of(block)

    dataset = MadeBlocks(100, lambda *_: hang.wait(LONG_S), lambda b: 20_000_000 if b < 8 else BLOCK_BYTES)
    dataset.pixel_bytes = measure
    reader = make_reader(dataset, read_threads=8, read_ahead_mb=1)
    reader.follow(range(100))
    until(lambda: dataset.reads)
    time.sleep(0.1)
    assert dataset.reads == {0: 1}
    hang.set()
    for block in range(9):
        reader.sizes(block)
    room = 1_000_000 // BLOCK_BYTES
    until(lambda: len(dataset.reads) == 9 + room)
    time.sleep(0.05)
    assert dataset.reads == dict.fromkeys(range(9 + room), 1)


def test_a_footer_tells_about_the_bytes_of_a_block(make_dataset):
    dataset = make_dataset(300)
    for block in range(dataset.blocks):
        assert dataset.pixel_bytes(block) == pytest.approx(dataset.block(block).data.nbytes, rel=0.05)


def test_a_footer_that_cannot_be_read_is_left_to_the_read(make_reader):
    def fail(_block: int) -> int:
        raise OSError(errno.EIO, "no")

    reader = make_reader(dataset := MadeBlocks(20, bytes_of=lambda _: BLOCK_BYTES), read_ahead_mb=1)
    dataset.pixel_bytes = fail
    reader.follow(range(20))
    until(lambda: len(dataset.reads) == 10)
    assert [reader.sizes(block).key[0] for block in range(20)] == list(range(20))


def test_blocks_above_the_memory_are_read_ahead_one_by_one(make_reader):
    dataset = MadeBlocks(600, bytes_of=lambda b: BLOCK_BYTES if b >= 500 else 1_100_000)
    reader = make_reader(dataset, read_ahead_mb=1)
    reader.follow(range(20))
    for block in range(3):
        until(lambda block=block: dataset.reads[block])
        time.sleep(0.02)
        assert dataset.reads == dict.fromkeys(range(block + 1), 1)
        reader.sizes(block)
    reader.follow(range(500, 520))  # and large ones behind it end nothing
    until(lambda: sum(dataset.reads[block] for block in range(500, 520)) == 10)


@pytest.mark.parametrize("threads", [0, 2])
def test_what_is_asked_for_beyond_the_named_blocks_is_bounded(make_reader, threads):
    """A pack that crosses 300 blocks for a few images of them."""
    dataset = MadeBlocks(1000)
    reader = make_reader(dataset, ("group",), read_threads=threads, read_ahead_mb=1)
    reader.follow([0])
    room = 1_000_000 // BLOCK_BYTES
    for block in range(300):
        reader.sizes(block)
        held = sum(one.nbytes for one in reader._shelf._held.values())
        assert held <= (1 + room + 1) * BLOCK_BYTES  # in use, kept, come last
    for block in range(300):  # to plan, no pixels are needed
        assert reader.sizes(block).key[0] == reader.table(block)["group"].to_pylist()[0] == block
        assert reader.bad(block) is None
    assert dataset.reads == dict.fromkeys(range(300), 1)
    for block in (0, 7, 299):
        assert reader.block(block).data.tolist() == [block % 251] * BLOCK_BYTES
    assert dataset.reads == {**dict.fromkeys(range(300), 1), 7: 2}
    reader.follow([8, 299])  # what is named now has its pixels, whatever was left of it
    until(lambda: not threads or dataset.reads[8] == 2)
    assert reader.block(8).data[0] == 8
    assert reader.block(299).data[0] == 299 % 251
    assert (dataset.reads[8], dataset.reads[299]) == (2, 1)


def test_what_someone_waits_for_is_kept(make_reader):
    """Whatever `follow` names meanwhile: while the block is read, and until the one who waits is awake."""
    go, served = Event(), []

    def happens(block: int, _before: int) -> None:
        assert block not in (50, 60) or go.wait(LONG_S)

    def ask(block: int) -> Thread:
        asking = Thread(target=lambda: served.append(reader.block(block).data[0]))
        asking.start()
        until(lambda: dataset.reads[block])
        return asking

    reader = make_reader(dataset := MadeBlocks(100, happens), read_threads=2, read_timeout_s=LONG_S)
    shelf = reader._shelf
    reader.follow([1, 2])
    first, second = ask(50), ask(60)
    reader.follow([3])
    with shelf._changed:  # nobody else moves
        shelf._put(60, read_served(MadeBlocks(100), 60))
        reader.follow([4])
    second.join(LONG_S)
    go.set()
    first.join(LONG_S)
    assert served == [60, 50]
    assert (dataset.reads[50], dataset.reads[60]) == (1, 1)


@pytest.mark.usefixtures("quick")
def test_all_who_wait_for_a_failing_block_are_answered(make_reader):
    go, raised = Event(), []

    def happens(_block: int, _before: int) -> None:
        go.wait(LONG_S)
        raise OSError(errno.EIO, "no")

    reader = make_reader(MadeBlocks(10, happens), read_threads=1)

    def ask() -> None:
        try:
            reader.block(3)
        except OSError as error:
            raised.append(error.errno)

    asking = [Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    until(lambda: len(reader._shelf._awaited) == 3)
    go.set()
    for thread in asking:
        thread.join(LONG_S)
    assert raised == [errno.EIO] * 3


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
