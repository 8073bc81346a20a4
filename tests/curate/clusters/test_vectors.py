"""Vectors in chunks: the same rows from memory, from a file and from columns; what is not finite is named."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import WIDTH, a_dataset, embedded, numbers_of

from aqqua.curate.clusters.vectors import (
    ArrayVectors,
    EmbeddingVectors,
    Prepared,
    RawVectors,
    floats_of,
    sampled_chunks,
)
from aqqua.train.ranks import Ranks


def test_a_file_holds_the_same_rows_as_memory(tmp_path):
    x = np.random.default_rng(0).normal(size=(1003, WIDTH)).astype(np.float16)
    x.tofile(tmp_path / "x")
    memory, file = ArrayVectors(x, 100), RawVectors(tmp_path / "x", WIDTH, chunk_rows=100)
    assert (file.rows, file.chunks) == (memory.rows, memory.chunks) == (1003, 11)
    for chunk in range(11):
        np.testing.assert_array_equal(file.chunk(chunk), x[100 * chunk :][:100])
        np.testing.assert_array_equal(memory.chunk(chunk), file.chunk(chunk))
        assert file.first_row(chunk) == 100 * chunk
    with pytest.raises(ValueError, match=r"must hold whole vectors of 7 float16, 14 bytes each, got 32096"):
        RawVectors(tmp_path / "x", 7)


def test_embeddings_are_those_of_the_images_in_their_order(tmp_path):
    dataset = a_dataset(tmp_path / "d", ["IFCB"] * 30)
    source = EmbeddingVectors(embedded(dataset, tmp_path / "e", lambda i: np.full(WIDTH, i)))
    assert (source.rows, source.width, source.chunks) == (30, WIDTH, dataset.blocks)
    for block in range(dataset.blocks):
        assert source.chunk(block)[:, 3].tolist() == numbers_of(dataset, block)
        assert source.first_row(block) == 4 * block


def test_what_is_not_finite_is_named_by_its_image(tmp_path):
    dataset = a_dataset(tmp_path / "d", ["IFCB"] * 30)
    vectors = np.ones((30, WIDTH))
    vectors[17, 2] = np.nan
    columns = embedded(dataset, tmp_path / "e", lambda i: vectors[i])
    source = EmbeddingVectors(columns)
    block = next(b for b in range(dataset.blocks) if 17 in numbers_of(dataset, b))
    key = dataset.table(["key"], [block])["key"][numbers_of(dataset, block).index(17)].as_py()
    with pytest.raises(ValueError, match=rf"must be finite, got nan in image a/17 \(key {key}\)"):
        Prepared(source).chunk(block)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_any_number_that_is_not_finite_is_found(bad):
    x = np.ones((9, 4), np.float32)
    x[5, 3] = bad
    with pytest.raises(ValueError, match=r"must be finite, got .* in row 5"):
        floats_of(x, lambda i: f"row {i}", normalise=False)


def test_normalised_vectors_have_length_one_and_zeros_stay():
    x = np.array([[3, 4], [0, 0], [1e-4, 0]], np.float16)
    got = floats_of(x, str, normalise=True)
    torch.testing.assert_close(got, torch.tensor([[0.6, 0.8], [0, 0], [1, 0]]))
    torch.testing.assert_close(floats_of(x, str, normalise=False), torch.from_numpy(x).float())


@given(rows=st.lists(st.integers(0, 52), max_size=30), chunk_rows=st.integers(1, 60))
def test_taken_rows_are_those_asked_for(rows, chunk_rows):
    x = np.arange(53 * 2, dtype=np.float32).reshape(53, 2)
    got = Prepared(ArrayVectors(x, chunk_rows)).take(rows, Ranks())
    np.testing.assert_array_equal(got.numpy(), x[rows].reshape(-1, 2))


def test_every_chunk_is_sampled_once_in_an_order_that_the_seed_names():
    order = list(sampled_chunks(9000, 1, 2))
    assert sorted(order) == list(range(9000)) != order
    assert order == list(sampled_chunks(9000, 1, 2)) != list(sampled_chunks(9000, 2, 2))
