"""Attention tiles: each sequence whole in one tile, well filled, the same in C++ and in the specification."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import MadeDataset, make_lane

from aqqua import _core
from aqqua.kernels.attention.tiles import (
    Tiles,
    arrange,
    arrange_reference,
    fillers,
    lay_out,
    lay_out_reference,
)
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views

CLASSES = st.one_of(
    st.sampled_from([(64,), (128,), (16, 32, 64), (16, 32, 64, 128), (1,), (127, 128)]),
    st.sets(st.integers(1, 128), min_size=1, max_size=5).map(lambda rows: tuple(sorted(rows))),
)
BOTH = pytest.mark.parametrize("served_by", [arrange, arrange_reference])


def lengths(largest: int = 200, most: int = 60) -> st.SearchStrategy[np.ndarray]:
    """Lengths all over, and from few values, so that many are equal."""
    whole = st.lists(st.integers(1, largest), max_size=most)
    few = st.lists(st.integers(1, largest), min_size=1, max_size=4).flatmap(
        lambda values: st.lists(st.sampled_from(values), max_size=most)
    )
    return st.one_of(whole, few).map(lambda values: np.array(values, np.int32))


def view_lengths(images: int, patch_px: int) -> np.ndarray:
    """Tokens of the views of made images with the spread of ISIIS, one prefix token each."""
    window = make_lane(MadeDataset(images, block_rows=64), lanes=1, window_blocks=images // 64).window(0)
    views = plan_views(window.sizes, window.visit_E, 0, patch_px, ViewConfig())
    return views.patches_IS().ravel() + 1


def assert_same(a: Tiles, b: Tiles) -> None:
    for field in dataclasses.fields(Tiles):
        got, want = getattr(a, field.name), getattr(b, field.name)
        assert got.dtype == want.dtype == np.int32
        np.testing.assert_array_equal(got, want, err_msg=field.name)


def assert_sound(tiles: Tiles, lengths_V: np.ndarray, tile_rows: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(tiles.lengths_V, lengths_V)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([tiles.order_J, tiles.long_W])), np.arange(len(lengths_V))
    )
    np.testing.assert_array_equal(tiles.long_W, np.flatnonzero(lengths_V > tile_rows[-1]))
    assert (tiles.tile_V[tiles.long_W] == -1).all()
    assert (tiles.row_V[tiles.long_W] == -1).all()
    assert tiles.start_B1[0] == 0
    assert tiles.start_B1[-1] == len(tiles.order_J)
    assert set(tiles.rows_B.tolist()) <= set(tile_rows)
    assert (np.diff(tiles.rows_B) <= 0).all()
    for tile, rows in enumerate(tiles.rows_B):
        inside = tiles.order_J[tiles.start_B1[tile] : tiles.start_B1[tile + 1]]
        assert len(inside)
        assert (tiles.tile_V[inside] == tile).all()
        ends = np.cumsum(lengths_V[inside])
        np.testing.assert_array_equal(tiles.row_V[inside], ends - lengths_V[inside])  # one after the other
        assert ends[-1] <= rows  # none straddles
        opener = lengths_V[inside].max()
        assert rows == min(size for size in tile_rows if size >= opener)


@given(lengths(), CLASSES)
@settings(max_examples=250, deadline=None)
def test_each_sequence_lies_whole_in_one_tile_as_in_the_reference(lengths_V, tile_rows):
    tiles = arrange(lengths_V, tile_rows)
    assert_sound(tiles, lengths_V, tile_rows)
    assert_same(tiles, arrange_reference(lengths_V, tile_rows))
    assert_same(tiles, arrange(lengths_V.copy(), tile_rows))


@pytest.mark.parametrize("tile_rows", [(64,), (128,), (16, 32, 64, 128)])
@pytest.mark.parametrize("largest", [5, 40, 128])
def test_many_sequences_equal_the_reference(tile_rows, largest):
    lengths_V = np.random.default_rng(largest).integers(1, largest + 1, 700).astype(np.int32)
    tiles = arrange(lengths_V, tile_rows)
    assert_sound(tiles, lengths_V, tile_rows)
    assert_same(tiles, arrange_reference(lengths_V, tile_rows))


@given(lengths(largest=40, most=12), st.integers(0, 64))
@settings(max_examples=100, deadline=None)
def test_the_rest_of_a_tile_is_filled_as_well_as_can_be(lengths_V, room):
    values, counts = np.unique(lengths_V, return_counts=True)
    chosen = fillers(room, dict(zip(values.tolist(), counts.tolist(), strict=True)))
    every = {0}
    for length in lengths_V.tolist():
        every |= {s + length for s in every}
    assert sum(chosen) == max(s for s in every if s <= room)
    assert chosen == sorted(chosen, reverse=True)
    assert all(chosen.count(n) <= count for n, count in zip(values.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("patch_px", [8, 16])
@pytest.mark.parametrize("rows", [64, 128])
def test_a_pack_of_small_images_fills_its_tiles(patch_px, rows):
    lengths_V = view_lengths(512, patch_px)
    assert arrange(lengths_V, (rows,)).fill >= 0.99


def test_smaller_tiles_waste_less_work():
    lengths_V = view_lengths(256, 16)
    one, three = arrange(lengths_V, (64,)), arrange(lengths_V, (16, 32, 64))
    assert three.useful_work > 1.5 * one.useful_work
    assert len(three.tiles_of(64)) < one.n_tiles / 3


def test_places_fill_and_work_by_hand():
    tiles = arrange(np.array([10, 70, 30, 20, 16, 5]), (16, 32))
    assert tiles.rows_B.tolist() == [32, 32, 16, 16]
    assert tiles.order_J.tolist() == [2, 3, 0, 4, 5]  # 30, 20 and 10, 16, 5
    assert tiles.start_B1.tolist() == [0, 1, 3, 4, 5]
    assert tiles.tile_V.tolist() == [1, -1, 0, 1, 2, 3]
    assert tiles.row_V.tolist() == [20, -1, 0, 0, 0, 0]
    assert tiles.long_W.tolist() == [1]
    assert [tiles.tiles_of(rows) for rows in (16, 32, 64)] == [range(2, 4), range(0, 2), range(0, 0)]
    assert tiles.fill == pytest.approx(81 / 96)
    assert tiles.useful_work == pytest.approx((100 + 900 + 400 + 256 + 25) / (2 * 32**2 + 2 * 16**2))


@BOTH
def test_no_sequences_and_only_long_ones(served_by):
    for lengths_V in (np.zeros(0, np.int32), np.array([65, 300, (1 << 31) - 1])):
        tiles = served_by(lengths_V, (64,))
        assert tiles.n_tiles == len(tiles.order_J) == 0
        assert tiles.start_B1.tolist() == [0]
        assert tiles.long_W.tolist() == list(range(len(lengths_V)))
        assert tiles.fill == tiles.useful_work == 1


def test_any_whole_numbers_will_do():
    lengths_V = np.array([3, 9, 60, 200])
    for dtype in (np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">i4"):
        if np.iinfo(dtype).max > 200:
            assert_same(arrange(lengths_V.astype(dtype), (64,)), arrange(lengths_V, (64,)))
    assert_same(arrange(np.repeat(lengths_V, 2)[::2], (64,)), arrange(lengths_V, (64,)))


@BOTH
@pytest.mark.parametrize(
    ("lengths_V", "message"),
    [
        (
            np.array([4, 0]),
            "lengths must be 1 to 2\\*\\*31 - 1, got 0 for sequence 1; leave empty sequences out",
        ),
        (np.array([-7]), "lengths must be 1 to 2\\*\\*31 - 1, got -7 for sequence 0"),
        (np.array([1, 1 << 31]), "lengths must be 1 to 2\\*\\*31 - 1, got 2147483648 for sequence 1"),
    ],
)
def test_lengths_that_are_none_are_refused(served_by, lengths_V, message):
    with pytest.raises(ValueError, match=f"arrange: {message}"):
        served_by(lengths_V, (64,))


@BOTH
@pytest.mark.parametrize("lengths_V", [np.array([1.5]), np.ones((2, 2), np.int64), np.array([True]), [1, 2]])
def test_arrays_that_are_no_lengths_are_refused(served_by, lengths_V):
    # Where shapes are checked (make shapes), that check is the first to refuse.
    with pytest.raises((ValueError, TypeError), match=r"whole numbers|parameter 'lengths_V'"):
        served_by(lengths_V, (64,))


@BOTH
@pytest.mark.parametrize("tile_rows", [(), (0,), (-1, 64), (64, 64), (64, 32), (129,), (64, 10**6)])
def test_classes_that_do_not_rise_are_refused(served_by, tile_rows):
    with pytest.raises(ValueError, match="arrange: tile_rows must rise within 1 to 128, got "):
        served_by(np.array([1]), tile_rows)


@pytest.mark.parametrize(
    ("lengths_V", "tile_rows", "message"),
    [
        (
            np.array([1.0]),
            (64,),
            r"lengths_V must be contiguous int32 \[1\], got float64 \[1\]; convert them",
        ),
        (np.ones((2, 2), np.int32), (64,), r"lengths_V must be contiguous int32 \[4\], got int32 \[2, 2\]"),
        (np.ones(4, np.int32)[::2], (64,), r"lengths_V must be contiguous int32 \[2\]"),
        (np.array([3, -2], np.int32), (64,), "lengths must be 1 to .*, got -2 for sequence 1"),
        (np.ones(1, np.int32), (), r"tile_rows must rise within 1 to 128, got \(\)"),
        (np.ones(1, np.int32), (64, 129), r"tile_rows must rise within 1 to 128, got \(64, 129\)"),
    ],
)
def test_the_core_checks_by_itself(lengths_V, tile_rows, message):
    with pytest.raises(ValueError, match=message):
        _core.arrange(lengths_V, tile_rows)


@settings(deadline=None)
@given(st.lists(st.integers(1, 150), max_size=80), st.sampled_from([(64,), (64, 128), (16, 32, 64)]))
def test_the_layout_is_that_of_its_specification(lengths, tile_rows):
    tiles = arrange(np.array(lengths, np.int32), tile_rows)
    for rows in tile_rows:
        np.testing.assert_array_equal(lay_out(tiles, rows), lay_out_reference(tiles, rows))


@pytest.mark.breaks_shapes
def test_a_layout_of_other_sequences_is_refused():
    tiles = arrange(np.array([60, 4, 30], np.int32), (64,))
    longer = dataclasses.replace(tiles, lengths_V=np.array([60, 5, 30], np.int32))
    with pytest.raises(ValueError, match="every sequence must lie inside its tile"):
        lay_out(longer, 64)
    with pytest.raises(ValueError, match=r"lay_out: row_V must be contiguous int32 \[3\]"):
        lay_out(dataclasses.replace(tiles, row_V=tiles.row_V[:2]), 64)
