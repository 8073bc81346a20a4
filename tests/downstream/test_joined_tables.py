"""Rows side by side by key, whatever the sizes of the batches."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.downstream.join import joined


def tables(keys, cuts, extra):
    """A table of these keys in pieces."""
    ends = [0, *sorted(cut % (len(keys) + 1) for cut in cuts), len(keys)]
    whole = pa.table({"key": pa.array(keys, pa.uint64()), extra: [f"{key}" for key in keys]})
    return [whole.slice(a, b - a) for a, b in itertools.pairwise(ends)]


@given(
    st.integers(1, 40),
    st.integers(0, 2**32),
    st.lists(st.integers(0, 50), max_size=4),
    st.lists(st.integers(0, 50), max_size=4),
)
@settings(deadline=None)
def test_every_row_finds_its_own(number, seed, cuts, other_cuts):
    draw = np.random.default_rng(seed)
    keys = draw.permutation(1000)[:number].astype(np.uint64)
    wanted = keys[draw.random(number) < 0.7]
    pairs = list(joined(tables(wanted, cuts, "image_id"), tables(keys, other_cuts, "size"), "sizes"))
    assert [row for first, _ in pairs for row in first["image_id"].to_pylist()] == [
        str(key) for key in wanted
    ]
    for first, second in pairs:
        assert first["key"].to_pylist() == second["key"].to_pylist()
        assert first["image_id"].to_pylist() == second["size"].to_pylist()


def test_an_image_without_its_row_is_named():
    first = tables(np.array([1, 2, 3], np.uint64), [], "image_id")
    second = tables(np.array([1, 3], np.uint64), [], "size")
    with pytest.raises(ValueError, match=r"every image must have its sizes, .* got none for 2"):
        list(joined(first, second, "sizes"))
