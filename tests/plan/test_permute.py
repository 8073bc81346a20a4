"""The order without memory: a bijection, the same in C++ and NumPy, at any position."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import FAR

from aqqua.plan.permute import permute, permute_reference

SEEDS = st.integers(0, (1 << 64) - 1)
SMALL = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 4095, 4097, 65_537]


def everything(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint64)


@pytest.mark.parametrize("n", SMALL)
def test_is_a_bijection_and_equals_the_reference(n):
    order = permute(everything(n), n, 7, 3)
    np.testing.assert_array_equal(np.sort(order), everything(n))
    np.testing.assert_array_equal(order, permute_reference(everything(n), n, 7, 3))


@given(st.integers(1, 1 << 62), SEEDS, SEEDS, st.data())
@settings(max_examples=150, deadline=None)
def test_equals_the_reference_for_any_n_seed_and_stream(n, seed, stream, data):
    index = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), np.uint64)
    before = index.copy()
    got = permute(index, n, seed, stream)
    np.testing.assert_array_equal(got, permute_reference(index, n, seed, stream))
    np.testing.assert_array_equal(index, before)
    assert (got < n).all()
    assert len(np.unique(got)) == len(np.unique(index))


def test_three_billion_cost_no_more_than_a_thousand_and_no_memory():
    index = np.random.default_rng(0).integers(0, FAR, 100_000, np.uint64)
    index = np.unique(index)
    begin = time.perf_counter()
    got = permute(index, FAR, 1, 2)
    seconds = time.perf_counter() - begin
    assert seconds < 1  # 10 µs a position; a table of 3·10⁹ would take minutes
    assert len(np.unique(got)) == len(index)
    assert int(got.max()) < FAR
    np.testing.assert_array_equal(permute(index[:100], FAR, 1, 2), got[:100])
    shares = np.histogram(got, bins=20, range=(0, FAR))[0] / len(got)
    assert np.abs(shares - 0.05).max() < 0.005


@pytest.mark.parametrize(
    ("seed", "stream"), [(1, 0), (1 << 32, 0), (0, 1), (0, 1 << 32), (0, 1 << 40), (0, 1 << 39)]
)
def test_every_seed_and_stream_is_another_order(seed, stream):
    first, other = (
        permute(everything(10_000), 10_000, 0, 0),
        permute(everything(10_000), 10_000, seed, stream),
    )
    assert (first == other).sum() < 20  # one fixed point is expected
    assert abs(np.corrcoef(first.astype(float), other.astype(float))[0, 1]) < 0.05


@pytest.mark.parametrize("n", [2, 3, 5, 8, 40])
def test_few_blocks_come_in_every_order(n):
    streams = 4000
    orders = np.stack([permute(everything(n), n, 0, stream) for stream in range(streams)])
    for position in (0, n - 1):
        counts = np.bincount(orders[:, position].astype(int), minlength=n)
        assert np.abs(counts - streams / n).max() < 6 * np.sqrt(streams / n)


def test_neighbours_are_torn_apart():
    order = permute(everything(100_000), 100_000, 0, 0).astype(float)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(np.arange(100_000), order)[0, 1]) < 0.01


@pytest.mark.parametrize("served_by", [permute, permute_reference])
@pytest.mark.parametrize(
    ("index", "n", "message"),
    [
        ([3], 3, "every index must be below n, got 3 of 3; reduce it first"),
        ([0], 0, "n must be 1 to 2\\*\\*62, got 0; split the dataset"),
        ([0], (1 << 62) + 1, "n must be 1 to 2\\*\\*62, got 4611686018427387905; split the dataset"),
    ],
)
def test_says_what_must_hold(served_by, index, n, message):
    with pytest.raises(ValueError, match=message):
        served_by(np.array(index, np.uint64), n, 0, 0)


@pytest.mark.parametrize("served_by", [permute, permute_reference])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 1 << 64}, "n must be 1 to 2\\*\\*62, got 18446744073709551616; split"),
        ({"n": -1}, "n must be 1 to 2\\*\\*62, got -1; split"),
        ({"seed": -1}, "seed must be 0 to 2\\*\\*64 - 1, got -1; set another seed"),
        ({"seed": 1 << 64}, "seed must be 0 to 2\\*\\*64 - 1, got 18446744073709551616; set another seed"),
        ({"stream": -1}, "stream must be 0 to 2\\*\\*64 - 1, got -1; number it anew"),
        ({"stream": 1 << 64}, "stream must be 0 to 2\\*\\*64 - 1, got 18446744073709551616; number"),
    ],
)
def test_a_number_beyond_64_bits_is_refused(served_by, wrong, message):
    with pytest.raises(ValueError, match=f"^permute: {message}"):
        served_by(everything(3), **({"n": 5, "seed": 0, "stream": 0} | wrong))


@pytest.mark.parametrize("served_by", [permute, permute_reference])
@pytest.mark.parametrize(
    "index", [np.array([1.7]), np.array([-1]), np.array([[0]], np.uint64), np.array(3, np.uint64)]
)
def test_what_is_no_index_is_refused_and_not_converted(served_by, index):
    # Where shapes are checked (make shapes), that check is the first to refuse.
    message = r"^permute: index must be contiguous uint64 \[1\], got |parameter 'index_B'"
    with pytest.raises((ValueError, TypeError), match=message):
        served_by(index, 5, 0, 0)


def test_nothing_in_nothing_out():
    assert permute(everything(0), 5, 0, 0).shape == (0,)
