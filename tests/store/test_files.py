"""Blocks whose original files stay files: the same images, bytes counted as they are, damage found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damaged_files import damaged_copy
from made_blocks import MadeBlocks
from made_images import NoiseFile, an_input, record

from aqqua.instruments.original import Original, decode_original
from aqqua.store import unpack as unpack_module
from aqqua.store.prefetch import BlockReader, ReadConfig
from aqqua.store.read import Block, DamagedError, Dataset
from aqqua.store.shelf import Shelf
from aqqua.store.split import NAMING
from aqqua.store.substitute import read_served, substitutes
from aqqua.store.write import ingest


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Dataset]:
    """Noise of all kinds in blocks of 64; colour of 16 bits has no file."""

    def make(count: int = 300, keep: bool = True) -> Dataset:
        found = [record(i, pixels=NoiseFile(i)) for i in range(count)]
        ingest([an_input(found)], tmp_path / str(keep), block_rows=64, keep_encoded=keep, workers=1)
        return Dataset.open(tmp_path / str(keep))

    return make


def decoded(block: Block, i: int) -> np.ndarray:
    image, sizes = block.image(i), block.sizes
    if isinstance(image, np.ndarray):
        return image
    shape = (int(sizes.height[i]), int(sizes.width[i]))
    shape = shape if sizes.channels[i] == 1 else (*shape, 3)
    return decode_original(image, shape, np.dtype(f"uint{sizes.bits[i]}"))


def test_files_are_those_of_the_rows_and_decode_to_the_images(make):
    dataset = make()
    kinds = set()
    for number in range(dataset.blocks):
        (files, names), (want, again) = (
            read(number, ["image_id", *NAMING]) for read in (dataset.files_with, dataset.block_with)
        )
        assert names.equals(again)
        rows = dataset.table(["encoded", "format"], [number]).to_pylist()
        for i in range(len(want)):
            image = files.image(i)
            is_file = isinstance(image, Original)
            assert (image.data, image.format) == tuple(rows[i].values()) if is_file else not rows[i]["format"]
            kinds.add(image.format if is_file else "pixels")
            np.testing.assert_array_equal(decoded(files, i), want.pixels(i))
            np.testing.assert_array_equal(want.image(i), want.pixels(i))
        assert not files.data.flags.writeable
    assert kinds == {"PNG", "TIFF", "pixels"}


def test_where_every_row_has_its_file_nothing_is_copied(tmp_path):
    found = [record(i, pixels=NoiseFile(i)) for i in range(0, 60, 2)]  # even numbers are of 8 bits
    ingest([an_input(found)], tmp_path / "d", block_rows=64, keep_encoded=True, workers=1)
    block = Dataset.open(tmp_path / "d").files_with(0, ())[0]
    assert block.data.base is not None
    assert all(isinstance(block.image(i), Original) for i in range(30))


def test_a_file_is_not_taken_for_pixels(make):
    block = make(64).files_with(0, ())[0]
    number = next(i for i in range(64) if isinstance(block.image(i), Original))
    with pytest.raises(AssertionError, match=f"image {number} is a file"):
        block.pixels(number)


def test_a_dataset_of_pixels_is_as_before(make):
    dataset = make(keep=False)
    files, want = dataset.files_with(1, ())[0], dataset.block(1)
    assert files.formats == ()
    np.testing.assert_array_equal(files.data, want.data)
    np.testing.assert_array_equal(files.offsets, want.offsets)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_reader_of_files_replaces_a_damaged_block(make, tmp_path, threads):
    whole = make()
    stands = next(substitutes(3, whole.blocks))
    dataset = Dataset.open(damaged_copy(whole.path, tmp_path / "damaged", [3], "encoded"))
    reader = BlockReader(dataset, ReadConfig(read_threads=threads), NAMING, files=True)
    reader.follow(range(dataset.blocks))
    assert [number for number in range(dataset.blocks) if reader.bad(number)] == [3]
    want = whole.files_with(stands, ())[0]
    np.testing.assert_array_equal(reader.block(3).data, want.data)
    assert reader.block(3).formats == want.formats
    reader.close()


def test_the_bytes_that_count_are_those_of_the_files(make):
    dataset = make()
    served = read_served(dataset, 1, files=True)
    sizes = [len(served.block.image(i).data) for i in range(64) if served.block.formats[i]]
    pixels = [served.block.image(i).nbytes for i in range(64) if not served.block.formats[i]]
    assert served.nbytes == sum(sizes) + sum(pixels) < read_served(dataset, 1).nbytes + 64 * 300
    assert 0 < sum(sizes) <= dataset.file_bytes(1) - dataset.pixel_bytes(1) + 64 * 100
    shelves = [Shelf(dataset, (), threads=0, budget_bytes=0, files=files) for files in (False, True)]
    mean = [shelf._average for shelf in shelves]
    assert mean[0] == dataset.manifest["pixel_bytes"] // dataset.blocks
    held = sum(dataset.files_with(number, ())[0].data.nbytes for number in range(dataset.blocks))
    # How many images have no file is known, not how large these are.
    assert mean[1] == pytest.approx(held / dataset.blocks, rel=0.3)
    plain = make(keep=False)
    assert Shelf(plain, (), threads=0, budget_bytes=0, files=True)._average == mean[0]


def test_what_is_declared_is_checked_without_decoding(make, monkeypatch):
    dataset = make(100)
    monkeypatch.setattr(unpack_module, "MAX_PIXELS", 2)
    monkeypatch.setattr(unpack_module, "decode_original", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DamagedError, match="must hold a file of at most 2 pixels, got"):
        dataset.files_with(0, ())


def test_the_ordinary_path_asks_for_blocks_as_ever():
    """Those who stand in for a dataset need no files."""
    assert len(read_served(MadeBlocks(9), 3).block) == 1
