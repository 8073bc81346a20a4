"""The order of a lane's windows in C++ against its specification: blocks, repeats, mixing, refusals."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import FAR, mixed

from aqqua.plan.order import (
    COPY_SHIFT,
    Entries,
    lane_blocks,
    lane_blocks_reference,
    mix_window,
    mix_window_reference,
    repeats,
)

SEEDS = st.integers(0, (1 << 64) - 1)
MIXED_BY = pytest.mark.parametrize("served_by", [mix_window, mix_window_reference])
BOTH = pytest.mark.parametrize("served_by", [lane_blocks, lane_blocks_reference])
PLACE = {"blocks": 10, "lanes": 4, "window_blocks": 2, "lane": 1, "window": 0, "seed": 0}
FIRST = {"lane": 0, "window": 0, "seed": 0}


def of_blocks(*images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """block_B, epoch_B, images_B of made-up blocks 100, 101, ..."""
    return np.arange(100, 100 + len(images)), np.zeros(len(images), np.int64), np.array(images, np.int64)


def assert_same(a: Entries, b: Entries) -> None:
    for field in dataclasses.fields(Entries):
        got, want = getattr(a, field.name), getattr(b, field.name)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want, err_msg=field.name)


@given(
    st.integers(1, 1 << 62),
    st.integers(1, 65536),
    st.integers(1, 64),
    st.integers(0, (1 << 39) - 1),
    SEEDS,
    st.data(),
)
@settings(max_examples=80, deadline=None)
def test_blocks_equal_the_reference(blocks, lanes, window_blocks, window, seed, data):
    # Few blocks take many epochs; 2**24 are the most.
    window %= max((blocks << COPY_SHIFT) // (lanes * window_blocks) - 1, 1)
    place = {
        "blocks": blocks,
        "lanes": lanes,
        "window_blocks": window_blocks,
        "lane": data.draw(st.integers(0, lanes - 1)),
        "window": window,
        "seed": seed,
    }
    got, want = lane_blocks(**place), lane_blocks_reference(**place)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype == np.int64
        np.testing.assert_array_equal(g, w)
    assert got[0].max() < blocks


@given(st.integers(1, 60), st.integers(1, 90), st.integers(1, 9), SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_block_comes_once_an_epoch_over_all_lanes(blocks, lanes, window_blocks, seed):
    windows = -(-2 * blocks // (lanes * window_blocks))
    seen = Counter()
    for lane in range(lanes):
        for window in range(windows):
            found = lane_blocks(
                blocks=blocks, lanes=lanes, window_blocks=window_blocks, lane=lane, window=window, seed=seed
            )
            seen.update(zip(*(values.tolist() for values in found), strict=True))
    for epoch in (0, 1):
        assert [seen[block, epoch] for block in range(blocks)] == [1] * blocks
    assert set(seen.values()) == {1}


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.integers(0, 65535),
    st.integers(0, (1 << 39) - 1),
    SEEDS,
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_mixing_equals_the_reference(images, lane, window, seed, data):
    block_B, _, images_B = of_blocks(*images)
    epochs = st.lists(st.integers(0, (1 << 24) - 1), min_size=len(images), max_size=len(images))
    epoch_B = np.array(data.draw(epochs), np.int64)
    keys, weights = None, None
    if data.draw(st.booleans()):
        weight = st.one_of(st.floats(0, 3), st.sampled_from([0.0, 1.0, 2.0, 254.7, 255.0, 255.5, 1e300]))
        weights = np.array(data.draw(st.lists(weight, min_size=sum(images), max_size=sum(images))))
        keys = mixed(np.arange(sum(images)) + seed % 1000)
    options = {"lane": lane, "window": window, "seed": seed, "key_I": keys, "weight_I": weights}
    got = mix_window(block_B, epoch_B, images_B, **options)
    assert_same(got, mix_window_reference(block_B, epoch_B, images_B, **options))
    if weights is None:
        np.testing.assert_array_equal(np.sort(got.image_E), np.arange(sum(images)))


def test_an_image_index_names_the_same_image_as_block_and_row():
    block_B, epoch_B, images_B = of_blocks(3, 0, 5, 1)
    got = mix_window(block_B, epoch_B, images_B, **FIRST)
    first = np.cumsum(images_B) - images_B
    np.testing.assert_array_equal(first[got.block_E - 100] + got.row_E, got.image_E)
    assert set(got.block_E) == {100, 102, 103}
    assert (got.visit_E == 0).all()


def test_each_weight_is_met_on_average_over_epochs():
    images = 4000
    weights = np.tile([0.0, 0.3, 1.0, 1.7, 254.5], images // 5)
    keys = mixed(np.arange(images))
    counts = np.zeros((6, images), np.int64)
    for epoch in range(6):
        block_B, _, images_B = of_blocks(images)
        got = mix_window(block_B, np.array([epoch]), images_B, **FIRST, key_I=keys, weight_I=weights)
        counts[epoch] = np.bincount(got.image_E, minlength=images)
        assert (np.abs(counts[epoch] - weights) < 1).all()
        copy = got.visit_E >> np.uint64(COPY_SHIFT)
        np.testing.assert_array_equal(
            np.bincount(got.image_E, copy, images), counts[epoch] * (counts[epoch] - 1) / 2
        )  # copies 0, 1, 2, ... of each
        assert (got.visit_E & np.uint64((1 << COPY_SHIFT) - 1) == epoch).all()
    for weight in (0.3, 1.7, 254.5):
        assert counts[:, weights == weight].mean() == pytest.approx(weight, abs=0.03)


def test_above_255_an_image_is_used_255_times():
    block_B, epoch_B, images_B = of_blocks(3)
    weights = np.array([255.0, 255.9, 1e300])
    got = mix_window(block_B, epoch_B, images_B, **FIRST, key_I=mixed(np.arange(3)), weight_I=weights)
    np.testing.assert_array_equal(np.bincount(got.image_E), [255, 255, 255])
    np.testing.assert_array_equal(repeats(np.array([0.0, 0.5, 1e9]), np.array([0.99, 0.5, 0.0])), [0, 1, 255])


def test_nothing_in_nothing_out():
    for images, weights in [((), None), ((0, 0), None), ((0, 2), np.zeros(2))]:
        keys = None if weights is None else mixed(np.arange(2))
        got = mix_window(*of_blocks(*images), **FIRST, key_I=keys, weight_I=weights)
        assert len(got) == 0
        assert_same(got, mix_window_reference(*of_blocks(*images), **FIRST, key_I=keys, weight_I=weights))


def test_any_position_of_three_billion_images():
    far = {**PLACE, "blocks": -(-FAR // 512), "lanes": 64, "lane": 63, "window_blocks": 64, "window": 10**9}
    block_B, epoch_B = lane_blocks(**far)
    assert len(set(block_B.tolist())) == 64
    assert (epoch_B == (63 + 64 * 64 * 10**9) // far["blocks"]).all()


@BOTH
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": 0}, "blocks must be 1 to 2\\*\\*62, got 0; take a dataset with images"),
        ({"blocks": (1 << 62) + 1}, "blocks must be 1 to 2\\*\\*62, got 4611686018427387905"),
        ({"lanes": 0}, "lanes must be 1 to 65536, got 0; set data.lanes"),
        ({"lanes": 10**9}, "lanes must be 1 to 65536, got 1000000000; set data.lanes"),
        ({"lane": 4}, "lane must be 0 to lanes - 1, got 4 of 4; take one of lanes_of_rank"),
        ({"lane": -1}, "lane must be 0 to lanes - 1, got -1 of 4"),
        ({"window": -1}, "window must be 0 to 2\\*\\*39 - 1, got -1; go on from a LaneState"),
        ({"window": 1 << 39}, "window must be 0 to 2\\*\\*39 - 1, got 549755813888"),
        ({"window_blocks": 0}, "window_blocks must be 1 to 64, got 0; set data.window_blocks"),
        ({"window_blocks": 65}, "window_blocks must be 1 to 64, got 65"),
        ({"blocks": 1 << 63}, "blocks must be 1 to 2\\*\\*62, got 9223372036854775808; take"),
        ({"blocks": -(1 << 70)}, "blocks must be 1 to 2\\*\\*62, got -1180591620717411303424"),
        ({"lanes": 1 << 64}, "lanes must be 1 to 65536, got 18446744073709551616; set"),
        ({"lane": 1 << 63}, "lane must be 0 to lanes - 1, got 9223372036854775808 of 4; take"),
        ({"window": 1 << 70}, "window must be 0 to 2\\*\\*39 - 1, got 1180591620717411303424; go on"),
        ({"window_blocks": 1 << 64}, "window_blocks must be 1 to 64, got 18446744073709551616; set"),
        ({"seed": -1}, "seed must be 0 to 2\\*\\*64 - 1, got -1; set another seed"),
        ({"seed": 1 << 64}, "seed must be 0 to 2\\*\\*64 - 1, got 18446744073709551616; set another seed"),
        ({"blocks": 1, "window": 1 << 38}, "epochs must be below 2\\*\\*24, got 2199023255557 in window"),
    ],
)
def test_a_place_that_is_none_is_refused(served_by, wrong, message):
    with pytest.raises(ValueError, match=f"lane_blocks: {message}"):
        served_by(**{**PLACE, **wrong})


@MIXED_BY
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lane": 65536}, "lane must be 0 to lanes - 1, got 65536 of 65536; take one of lanes_of_rank"),
        ({"lane": 1 << 64}, "lane must be 0 to lanes - 1, got 18446744073709551616 of 65536"),
        ({"window": -3}, "window must be 0 to 2\\*\\*39 - 1, got -3; go on from a LaneState"),
        ({"window": 1 << 70}, "window must be 0 to 2\\*\\*39 - 1, got 1180591620717411303424"),
        ({"seed": -1}, "seed must be 0 to 2\\*\\*64 - 1, got -1; set another seed"),
        ({"seed": 1 << 64}, "seed must be 0 to 2\\*\\*64 - 1, got 18446744073709551616"),
        ({"epoch_B": np.array([0, 1 << 24])}, "epochs must be 0 to 2\\*\\*24 - 1, got 16777216; take"),
        ({"epoch_B": np.array([0, -1])}, "epochs must be 0 to 2\\*\\*24 - 1, got -1"),
        (
            {"images_B": np.array([2, -1])},
            "images of a window must be 0 to 2\\*\\*24, got -1 in a block; lower",
        ),
        (
            {"images_B": np.array([2, (1 << 24) - 1])},
            "images of a window must be .*, got 16777215 in a block",
        ),
        (
            {"images_B": np.array([2, (1 << 63) - 1])},
            "images of a window must be .*, got 9223372036854775807",
        ),
    ],
)
def test_a_window_that_is_none_is_refused(served_by, wrong, message):
    block_B, epoch_B, images_B = of_blocks(2, 2)
    arguments = {"block_B": block_B, "epoch_B": epoch_B, "images_B": images_B, **FIRST, **wrong}
    with pytest.raises(ValueError, match=f"mix_window: {message}"):
        served_by(**arguments)


@MIXED_BY
def test_a_window_of_too_many_copies_is_refused(served_by):
    images = (1 << 24) // 255 + 1
    options = {"key_I": mixed(np.arange(images)), "weight_I": np.full(images, 255.0)}
    message = r"mix_window: entries of a window must be 0 to 2\*\*24, got 16777\d\d\d; lower the weights"
    with pytest.raises(ValueError, match=message):
        served_by(*of_blocks(images), **FIRST, **options)


@MIXED_BY
@pytest.mark.parametrize(
    ("weight", "shown"),
    [(np.nan, "nan"), (-0.5, "-0.5"), (np.inf, "inf"), (-np.inf, "-inf"), (-np.nan, "nan")],
)
def test_a_weight_that_is_none_is_refused(served_by, weight, shown):
    weights = np.array([1.0, 1.0, 0.0, weight])
    with pytest.raises(
        ValueError,
        match=f"weights must be finite and at least 0, got {shown} in row 1 of block 101; correct",
    ):
        served_by(*of_blocks(2, 2), **FIRST, key_I=mixed(np.arange(4)), weight_I=weights)


@pytest.mark.breaks_shapes
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images_B": np.array([2])}, r"images_B must be contiguous int64 \[2\], got int64 \[1\]"),
        ({"images_B": np.array([2.0, 2.0])}, r"images_B must be contiguous int64 \[2\], got float64 \[2\]"),
        ({"key_I": np.zeros(4, np.uint64)}, "keys and weights must come together, got keys alone"),
        ({"weight_I": np.zeros(4)}, "keys and weights must come together, got weights alone"),
        (
            {"key_I": np.zeros(4, np.uint64), "weight_I": np.zeros(3)},
            r"weight_I must be contiguous float64 \[4\], got float64 \[3\]; give one for each image",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong, message):
    block_B, epoch_B, images_B = of_blocks(2, 2)
    arguments = {"block_B": block_B, "epoch_B": epoch_B, "images_B": images_B, **FIRST, **wrong}
    with pytest.raises(ValueError, match=f"mix_window: {message}"):
        mix_window(**arguments)
