"""Reading ahead: the same blocks whatever the threads do, each read once; damaged ones borne or not."""

import errno
import time

import numpy as np
import pytest
from damaged_files import damaged_copy
from made_blocks import LONG_S, Happens, MadeBlocks, damaged

from aqqua.plan.lanes import Blocks, Lane, LaneConfig
from aqqua.store import prefetch
from aqqua.store.prefetch import BlockReader
from aqqua.store.read import DamagedError, Dataset
from aqqua.store.split import NAMING
from aqqua.store.substitute import substitutes


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


# Damage, failing and slow disks.


def test_more_damage_than_a_share_ends_it(make_reader):
    bad = list(range(0, 22, 2))  # eleven
    reader = make_reader(MadeBlocks(5000, damaged(*bad)), max_bad_share=0.01)
    for block in range(20):  # ten of the first thousand are borne, however early they come
        reader.sizes(block)
    assert reader.bad(18).block == 18
    for block in (20, 20, 1, 2000):  # and then nothing is served
        with pytest.raises(
            DamagedError,
            match=r"1.00% of 1000 .* got 11 in 21 reads, the last of them: block 20 .* data.max_bad_share",
        ):
            reader.block(block)
    patient = make_reader(MadeBlocks(5000, damaged(*bad)), max_bad_share=0.011)
    for block in [*range(50), *range(50)]:  # seen twice is not bad twice
        patient.sizes(block)
        patient.follow([])


@pytest.mark.parametrize(("blocks", "borne"), [(1, 1), (90, 1), (200, 2), (700, 7), (1500, 10)])
def test_the_share_is_of_all_blocks_where_they_are_few(make_reader, blocks, borne):
    happens = damaged(*range(min(borne + 1, blocks - 1)))
    reader = make_reader(MadeBlocks(blocks, happens), read_threads=0, max_bad_share=0.01)
    for block in range(min(borne, blocks - 1)):
        reader.sizes(block)
    if blocks > 1:
        with pytest.raises(DamagedError, match=f"got {borne + 1} in"):
            reader.sizes(borne)


def test_the_share_grows_with_what_is_read(make_reader):
    bad = [*range(0, 1000, 100), 1150, 1160]
    reader = make_reader(MadeBlocks(5000, damaged(*bad)), read_threads=0, max_bad_share=0.01)
    for block in range(1160):  # eleven of 1151 are borne
        reader.sizes(block)
        reader.follow([])
    with pytest.raises(DamagedError, match="of 1161 blocks may be damaged, got 12 in 1161 reads"):
        reader.sizes(1160)


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
@pytest.mark.parametrize("threads", [0, 2])
def test_a_block_counts_when_it_is_served_not_when_it_is_asked_for(make_reader, threads):
    failing = {3, 5, 7}
    is_damaged = damaged(*failing)

    def happens(block: int, before: int) -> None:
        if block in failing:
            raise OSError(errno.EIO, "no")
        is_damaged(block, before)

    reader = make_reader(MadeBlocks(200, happens), read_threads=threads)  # two of 200 are borne
    for block in (3, 5, 7):
        reader.follow(range(block, block + 3))
        with pytest.raises(OSError, match="no"):
            reader.sizes(block)
        failing.discard(block)
        if block < 7:
            assert reader.bad(block).block == block
    with pytest.raises(DamagedError, match="got 3 in 3 reads"):
        reader.sizes(7)


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


def test_many_orders_under_stress(make_reader):
    """Small memory, many threads, an order that repeats itself: nothing is lost, nothing gets stuck."""
    draw = np.random.default_rng(3)
    reader = make_reader(
        MadeBlocks(30, dawdling(4)), ("group",), read_threads=8, read_ahead_mb=1, max_bad_share=1.0
    )
    order = draw.integers(0, 30, 300).tolist()
    assert [seen[0] for seen in walk(reader, order, ahead=25)] == order
