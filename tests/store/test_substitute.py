"""What stands for a block: itself while the disk only fails, always the same other one if it is damaged."""

import errno
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from damaged_files import damaged_copy, flip, pixels_at
from hypothesis import given
from hypothesis import strategies as st
from made_blocks import MadeBlocks, damaged

from aqqua.store import substitute
from aqqua.store.read import DamagedError, Dataset
from aqqua.store.split import NAMING
from aqqua.store.substitute import MOST_TRIED, RETRY_S, read_served, substitutes


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_substitutes_are_all_other_blocks_once(block_of):
    block, blocks = block_of
    assert sorted([block, *substitutes(block, blocks)]) == list(range(blocks))


def test_substitutes_never_change():
    """Runs of earlier versions must resume with the same images: these numbers are a promise."""
    assert [list(islice(substitutes(block, 39), 4)) for block in (0, 1, 38)] == [
        [32, 28, 36, 25], [15, 19, 20, 28], [5, 32, 11, 30],
    ]  # fmt: skip
    assert next(substitutes(5, 6_000_000)) == 5632738
    assert next(substitutes(0, 1), None) is None


def test_a_sound_block_is_itself(make_dataset):
    dataset = make_dataset(200)
    for number in range(dataset.blocks):
        served, want = read_served(dataset, number, NAMING), dataset.block(number)
        assert served.bad is None
        np.testing.assert_array_equal(served.block.data, want.data)
        np.testing.assert_array_equal(served.block.sizes.key, want.sizes.key)
        assert served.table.equals(dataset.table(NAMING, [number]))
        assert served.nbytes >= want.data.nbytes


def test_a_flipped_bit_is_reported_and_replaced(make_dataset, tmp_path):
    whole = make_dataset(640)
    first, second = islice(substitutes(4, whole.blocks), 2)
    dataset = Dataset.open(damaged_copy(whole.path, tmp_path / "damaged", [4]))
    served = read_served(dataset, 4)
    np.testing.assert_array_equal(served.block.sizes.key, whole.sizes(first).key)
    assert served.bad is not None
    assert (served.bad.block, served.bad.replacement) == (4, first)
    assert (served.bad.file, served.bad.row_group) == whole.place(4)
    assert f"row group {whole.place(4)[1]} must be readable, got could not verify page" in served.bad.error

    both = Dataset.open(damaged_copy(dataset.path, tmp_path / "both", [first]))
    served = read_served(both, 4)
    assert served.bad is not None
    assert served.bad.replacement == second


def test_damage_that_is_gone_at_the_second_look_is_none():
    def happens(block: int, before: int) -> None:
        if before == 0:
            raise DamagedError(f"block {block} came wrong")

    dataset = MadeBlocks(9, happens)
    assert read_served(dataset, 3).bad is None
    assert dataset.reads == {3: 2}


def test_nothing_but_damage_is_an_error_soon():
    dataset = MadeBlocks(1000, damaged(*range(1000)))
    with pytest.raises(DamagedError, match="none among 16 others, damaged too, for: block 7 must be"):
        read_served(dataset, 7)
    assert len(dataset.reads) == 1 + MOST_TRIED
    with pytest.raises(DamagedError, match="none among 0 others"):
        read_served(MadeBlocks(1, damaged(0)), 0)


@pytest.mark.parametrize("failures", [1, len(RETRY_S)])
def test_a_disk_that_recovers_changes_nothing(failures):
    def happens(_block: int, before: int) -> None:
        if before < failures:
            raise OSError(errno.ESTALE, "stale file handle")

    paused: list[float] = []
    dataset = MadeBlocks(9, happens)
    served = read_served(dataset, 3, pause=paused.append)
    assert served.bad is None
    assert served.block.sizes.key.tolist() == [3]
    assert paused == list(RETRY_S[:failures])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_is_no_damage(number):
    def happens(block: int, _before: int) -> None:
        raise OSError(number, f"block {block} must be readable")

    paused: list[float] = []
    with pytest.raises(OSError, match=r"block 3 must be readable \(4 attempts in 5 s\)") as caught:
        read_served(MadeBlocks(9, happens), 3, pause=paused.append)
    assert caught.value.errno == number
    assert paused == list(RETRY_S)


def test_the_pause_can_end_it():
    def happens(_block: int, _before: int) -> None:
        raise OSError(errno.EIO, "no")

    def closed(_seconds: float) -> None:
        raise KeyError("closed")

    with pytest.raises(KeyError, match="closed"):
        read_served(MadeBlocks(9, happens), 3, pause=closed)


# What real files do: the system's errors have a number, Parquet's have none.


def test_a_real_input_output_error_names_file_and_row_group(make_dataset):
    """The open handle is turned into one whose reads fail, as those of a dying disk do."""
    dataset = make_dataset(200)
    dataset.block(0)  # opens the part
    part = (dataset.path / "part-00000.parquet").resolve()
    handle = next(int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == part)
    with open("/proc/self/mem", "rb") as failing:  # noqa: PTH123 - reads at unmapped addresses give EIO
        os.dup2(failing.fileno(), handle)
    with pytest.raises(OSError, match=r"part-00000.parquet row group 2 must be readable, got .*Input/output"):
        dataset.block(2)
    assert len(dataset.block(2)) == 64  # by a new handle


def test_a_missing_file_is_no_damage(make_dataset, monkeypatch):
    monkeypatch.setattr(substitute, "RETRY_S", (0.0, 0.0))
    dataset = make_dataset(100)
    (dataset.path / "part-00000.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-00000.parquet row group 1 .*\(3 attempts in 0 s\)"):
        read_served(dataset, 1)


def test_a_torn_file_is_damage(make_dataset):
    dataset = make_dataset(200)
    part = dataset.path / "part-00000.parquet"
    place = pixels_at(part, 2)
    dataset.block(0)  # the footer is read while the file is whole
    os.truncate(part, place + 50)
    with pytest.raises(DamagedError, match="row group 2 must be readable, got File too short"):
        dataset.block(2)


@pytest.mark.parametrize("part", ["pages", "footer"])
def test_no_flipped_bit_passes_or_crashes(make_dataset, part):
    """Every outcome is the block as it was written, or DamagedError."""
    dataset = make_dataset(10)
    file = dataset.path / "part-00000.parquet"
    raw = file.read_bytes()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    places = range(4, pixels_at(file, 0) + 60) if part == "pages" else range(footer, len(raw))
    draw, want, found = np.random.default_rng(0), _content(dataset), 0
    for place in draw.choice(places, 250, replace=False).tolist():
        flip(file, place, int(draw.integers(8)))
        try:
            assert _content(Dataset.open(dataset.path)) == want, place
        except DamagedError:
            found += 1
        file.write_bytes(raw)
    assert found > 30


def _content(dataset: Dataset) -> list[object]:
    block, table = dataset.block_with(0, NAMING)
    sizes = block.sizes
    arrays = [block.data, block.offsets, *(getattr(sizes, name) for name in sizes.__slots__[:-1])]
    names = [sizes.instrument_names[code] for code in sizes.instrument]
    return [*(array.tobytes() for array in arrays if array is not sizes.instrument), names, table.to_pydict()]
