"""Sampling weights as training reads them: of the images that are served, or a clear end."""

import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
from damaged_files import damaged_copy
from made_weights import mixed, write_weights

from aqqua.store import columns, substitute
from aqqua.store.columns import Columns
from aqqua.store.prefetch import BlockReader, ReadConfig
from aqqua.store.read import Dataset
from aqqua.store.substitute import read_served
from aqqua.store.weights import SamplingWeights

BAD = 2


def spoil(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[20] ^= 1
    part.write_bytes(data)


def test_weights_are_those_of_the_keys(make_dataset, tmp_path):
    dataset = make_dataset()
    sampling = SamplingWeights.open(write_weights(tmp_path / "w", dataset.path, mixed), dataset)
    total = 0.0
    for block in range(dataset.blocks):
        weight_I = sampling.block(block, dataset.sizes(block))
        assert weight_I.dtype == np.float64
        assert np.array_equal(weight_I, mixed(dataset.sizes(block).key).astype(np.float32))
        total += weight_I.sum()
    assert sampling.total == pytest.approx(total)
    again = pickle.loads(pickle.dumps(sampling))
    assert again.sha256 == sampling.sha256
    assert np.array_equal(again.block(0, dataset.sizes(0)), sampling.block(0, dataset.sizes(0)))


def test_a_substitute_comes_with_its_own_weights(make_dataset, tmp_path):
    sound = make_dataset()
    path = write_weights(tmp_path / "w", sound.path, mixed)
    dataset = Dataset.open(damaged_copy(sound.path, tmp_path / "bad", [BAD]))
    sampling = SamplingWeights.open(path, dataset)
    served = read_served(dataset, BAD, weights=sampling)
    assert served.bad is not None
    assert np.array_equal(served.weight_I, mixed(served.block.sizes.key).astype(np.float32))
    assert not np.array_equal(served.weight_I, sampling.block(BAD, sound.sizes(BAD)))
    assert np.array_equal(served.without_pixels().weight_I, served.weight_I)
    with_reader = BlockReader(dataset, weights=sampling)
    try:
        assert np.array_equal(with_reader.weights(BAD), served.weight_I)
    finally:
        with_reader.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_damaged_weights_end_the_reading_and_nothing_stands_for_them(make_dataset, tmp_path, threads):
    dataset = make_dataset()
    path = write_weights(tmp_path / "w", dataset.path, mixed)
    sampling = SamplingWeights.open(path, dataset)
    spoil(path / dataset.part_name(0))
    reader = BlockReader(dataset, ReadConfig(read_threads=threads), weights=sampling)
    try:
        with pytest.raises(ValueError, match=r"part-00000\.parquet must be readable.*damaged") as raised:
            reader.weights(0)
        assert type(raised.value) is ValueError  # no DamagedError, for which another block would be read
    finally:
        reader.close()


def test_a_disk_that_fails_now_and_then_is_asked_again(make_dataset, tmp_path, monkeypatch):
    dataset = make_dataset()
    sampling = SamplingWeights.open(write_weights(tmp_path / "w", dataset.path, mixed), dataset)
    failures = iter([OSError(errno.EIO, "it fails"), ValueError("a byte on the way")])
    real = Columns.block

    def block(self: Columns, *args: object) -> object:
        if error := next(failures, None):
            raise error
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(columns.Columns, "block", block)
    monkeypatch.setattr(substitute, "RETRY_S", (0.0, 0.0))
    served = read_served(dataset, 1, weights=sampling)
    assert np.array_equal(served.weight_I, mixed(dataset.sizes(1).key).astype(np.float32))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_what_is_no_weight_is_refused(make_dataset, tmp_path, bad):
    dataset = make_dataset()
    key = dataset.sizes(1).key[5]
    path = write_weights(tmp_path / "w", dataset.path, lambda key_I: np.where(key_I == key, 0.5, 1.0))
    sampling = SamplingWeights.open(path, dataset)
    real = sampling._columns.block

    def block(number: int, names: list[str]) -> object:
        table = real(number, names)
        weight = table["weight"].to_numpy().copy()
        weight[weight == 0.5] = bad
        return table.set_column(table.schema.names.index("weight"), "weight", [weight])

    sampling._columns.block = block
    sampling.block(0, dataset.sizes(0))
    with pytest.raises(ValueError, match="block 1 must have weights finite and at least 0, got"):
        sampling.block(1, dataset.sizes(1))


def test_weights_of_other_images_are_refused(make_dataset, tmp_path):
    dataset, other = make_dataset(), make_dataset(200, "other")
    path = write_weights(tmp_path / "w", dataset.path, mixed)
    with pytest.raises(ValueError, match="must be of the dataset"):
        SamplingWeights.open(path, other)
    with pytest.raises(ValueError, match="must have the keys of the dataset's images"):
        SamplingWeights.open(path, dataset).block(0, dataset.sizes(1))
    none = write_weights(tmp_path / "none", dataset.path, lambda key_I: 0.0 * key_I)
    with pytest.raises(ValueError, match="must state a weight_sum above 0"):
        SamplingWeights.open(none, dataset)
