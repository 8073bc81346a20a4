"""iBOT's masks: how many views, how much of each, and what they never do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import mixed
from pydantic import ValidationError

from aqqua import _core
from aqqua.plan.cut import log_uniform
from aqqua.plan.masks import (
    ASPECT,
    MIN_BLOCK,
    MaskConfig,
    Masks,
    all_patches,
    block_mask,
    plan_masks,
    plan_masks_reference,
)

GRID = st.tuples(st.integers(1, 30), st.integers(1, 30))
STRIP = st.tuples(st.just(1), st.integers(1, 300))
U64 = st.integers(0, (1 << 64) - 1)


def plan(grids, *, seed: int = 0, visit: int = 0, keys=None, config: MaskConfig | None = None):
    """Mask of each view; None where nothing is hidden."""
    grid = np.array(grids, np.int32).reshape(-1, 2)
    keys = mixed(np.arange(len(grid))) if keys is None else keys
    visits = np.full(len(grid), visit, np.uint64)
    masks = plan_masks(grid, keys, visits, seed, config or MaskConfig())
    of_views = np.split(masks.mask_N, np.cumsum(grid.prod(axis=1))[:-1])
    return [mask if mask.any() else None for mask in of_views]


def draws(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((64, 4))


@given(st.lists(GRID, min_size=1, max_size=40), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_half_of_the_views_are_masked_each_partly_and_none_that_is_too_small(grids, seed):
    masks = plan(grids, seed=seed)
    patches = np.array([rows * columns for rows, columns in grids])
    masked = [view for view, mask in enumerate(masks) if mask is not None]
    assert len(masked) == min(max(len(grids) // 2, 1), int((patches >= MIN_BLOCK).sum()))
    for view in masked:
        mask = masks[view]
        assert mask.shape == (patches[view],)
        assert mask.dtype == bool
        assert patches[view] >= MIN_BLOCK
        assert 1 <= mask.sum() <= max(patches[view] * 0.5, 1)


def test_the_share_counts_all_views_as_dinov2_does_not_only_those_large_enough():
    masks = plan([(1, 3)] * 10 + [(4, 4)] * 10)
    assert sum(mask is not None for mask in masks) == 10


@pytest.mark.parametrize(("odds", "count"), [(0.0, 0), (0.25, 25), (0.5, 50), (1.0, 100)])
def test_the_share_of_masked_views_is_the_configured_one(odds, count):
    masks = plan([(10, 10)] * 100, config=MaskConfig(odds=odds))
    assert sum(mask is not None for mask in masks) == count


def test_ratios_fill_equal_bins_of_their_range():
    """Grids large enough that rounding down and undershoot stay within a fifth of a bin's distance."""
    masks = plan([(40, 40)] * 40)
    ratios = np.sort([mask.mean() for mask in masks if mask is not None])
    edges = np.linspace(0.1, 0.5, 21)
    assert len(ratios) == 20
    assert (ratios >= edges[:-1] - 0.01).all()
    assert (ratios <= edges[1:]).all()


def test_which_view_gets_which_ratio_is_a_draw():
    first, other = (
        [0 if mask is None else mask.mean() for mask in plan([(20, 20)] * 200, visit=visit)]
        for visit in (0, 1)
    )
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.25
    assert abs(np.corrcoef(first, np.arange(200))[0, 1]) < 0.25


@given(st.lists(GRID, min_size=2, max_size=20), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_masks_depend_on_the_views_not_on_their_order(grids, random):
    keys = mixed(np.arange(len(grids)))
    order = np.array(random.sample(range(len(grids)), len(grids)))
    straight = plan(grids, keys=keys)
    shuffled = plan(np.array(grids)[order], keys=keys[order])
    for place, view in enumerate(order):
        assert (shuffled[place] is None) == (straight[view] is None)
        if straight[view] is not None:
            np.testing.assert_array_equal(shuffled[place], straight[view])


@pytest.mark.parametrize("change", [{"seed": 1}, {"visit": 1}])
def test_same_seed_and_visit_same_masks_others_differ(change):
    grids = [(12, 12)] * 20
    first, again, other = plan(grids), plan(grids), plan(grids, **change)
    flat = [np.concatenate([np.zeros(144, bool) if m is None else m for m in masks])
            for masks in (first, again, other)]  # fmt: skip
    np.testing.assert_array_equal(flat[0], flat[1])
    assert (flat[0] != flat[2]).any()


@pytest.mark.parametrize(
    ("wanted", "least"), [(0, 1), (1, 1), (25, 24.5), (64, 63), (128, 124)]
)  # DINOv2's own, measured: 0/25/64/127 of 0/25/64/128
def test_undershoots_hardly_more_than_dinov2(wanted, least):
    hidden = [int(block_mask(16, 16, wanted, draws(seed)).sum()) for seed in range(300)]
    assert max(hidden) <= max(wanted, 1)
    assert np.mean(hidden) >= least


@given(GRID, st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_mask_never_hides_more_than_wanted_nor_nothing(grid, share, seed):
    wanted = int(grid[0] * grid[1] * share)
    mask = block_mask(grid[0], grid[1], wanted, draws(seed))
    assert mask.shape == grid
    assert 1 <= mask.sum() <= max(wanted, 1)


def test_masks_are_blocks_spread_over_the_whole_grid():
    masks = np.stack([block_mask(16, 24, 100, draws(seed)) for seed in range(500)])
    hidden = masks.mean(axis=0)
    assert hidden.min() > 0.005  # corners are hidden too, though seldom, as in DINOv2
    assert np.abs(hidden - hidden[::-1, ::-1]).max() < 0.12  # no side is preferred
    alike = (masks[:, :, 1:] == masks[:, :, :-1]).mean()
    assert alike > 0.8  # single patches at this ratio: 0.61


def test_a_range_of_ratios_that_cannot_be_is_refused():
    with pytest.raises(ValidationError, match="ratio must be low, high with 0 <= low <= high <= 1"):
        MaskConfig(ratio=(0.5, 0.1))
    with pytest.raises(ValidationError, match=r"got -0\.1, 0\.5"):
        MaskConfig(ratio=(-0.1, 0.5))


def assert_same(got: Masks, want: Masks) -> None:
    for name in ("mask_N", "masked_M", "weight_M"):
        values, expected = getattr(got, name), getattr(want, name)
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)


@given(
    global_grids=st.lists(GRID | STRIP | st.just((1, 1)), max_size=40),
    local_grids=st.lists(GRID, max_size=5),
    seed=U64,
    odds=st.floats(0, 1),
    ratio=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_equals_the_reference_bit_for_bit(global_grids, local_grids, seed, odds, ratio, data):
    n = len(global_grids)
    keys = np.array(data.draw(st.lists(U64, min_size=n, max_size=n)), np.uint64)
    visits = np.array(data.draw(st.lists(st.integers(0, (1 << 32) - 1), min_size=n, max_size=n)), np.uint64)
    grid = np.array(global_grids + local_grids, np.int32).reshape(-1, 2)
    options = (grid, keys, visits, seed, MaskConfig(odds=odds, ratio=(min(ratio), max(ratio))))
    got = plan_masks(*options)
    assert_same(got, plan_masks_reference(*options))
    assert not got.mask_N[len(got.mask_N) - sum(rows * columns for rows, columns in local_grids) :].any()


def test_equals_the_reference_on_thousands_of_views():
    """Enough blocks that every rare way through the placing of one is taken."""
    rng = np.random.default_rng(0)
    grid = rng.integers(1, 24, (3000, 2)).astype(np.int32)
    keys, visits = rng.integers(0, 1 << 64, 3000, np.uint64), rng.integers(0, 1 << 32, 3000, np.uint64)
    for config in (MaskConfig(), MaskConfig(odds=1, ratio=(0, 1)), MaskConfig(odds=1, ratio=(1, 1))):
        options = (grid, keys, visits, 17, config)
        assert_same(plan_masks(*options), plan_masks_reference(*options))


def test_views_that_draw_the_same_are_taken_in_their_order():
    """An image that is in a pack twice on the same visit has the same key and draws."""
    n = 9
    options = (np.full((n, 2), 6, np.int32), np.full(n, 5, np.uint64), np.full(n, 2, np.uint64))
    got = plan_masks(*options, 0, MaskConfig())
    assert_same(got, plan_masks_reference(*options, 0, MaskConfig()))
    np.testing.assert_array_equal(np.unique(got.masked_M // 36), np.arange(n // 2))


def test_weights_of_a_view_are_one_over_its_hidden_patches():
    masks = plan_masks(
        np.full((50, 2), 9, np.int32), mixed(np.arange(50)), np.zeros(50, np.uint64), 1, MaskConfig()
    )
    hidden_V = masks.mask_N.reshape(50, 81).sum(axis=1)
    np.testing.assert_array_equal(masks.masked_M, np.flatnonzero(masks.mask_N))
    np.testing.assert_array_equal(masks.weight_M, (1 / hidden_V[masks.masked_M // 81]).astype(np.float32))


@pytest.mark.parametrize("served_by", [plan_masks, plan_masks_reference])
def test_no_views_no_masks(served_by):
    nothing = np.zeros(0, np.uint64)
    for grid in (np.zeros((0, 2), np.int32), np.ones((3, 2), np.int32)):
        masks = served_by(grid, nothing, nothing, 0, MaskConfig(odds=1))
        assert masks.mask_N.shape == (len(grid),)
        assert not masks.mask_N.any()
        assert masks.masked_M.shape == masks.weight_M.shape == (0,)


@pytest.mark.parametrize("served_by", [plan_masks, plan_masks_reference])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid_V2": np.zeros((0, 2), np.int32)}, "must be among the 0 views, got 2; take it from a Pack"),
        ({"grid_V2": np.array([[3, 3], [0, 5]], np.int32)}, "at least 1 x 1 patches, got 0 x 5; leave"),
        ({"grid_V2": np.array([[3, -1], [3, 3]], np.int32)}, "at least 1 x 1 patches, got 3 x -1; leave"),
        ({"visits_G": np.array([0, 1 << 32], np.uint64)}, "visit must be below 2..32, got 4294967296; start"),
        ({"grid_V2": np.full((2, 2), 40_000, np.int32)}, "fewer than 2..31 patches, got 3200000000; lower"),
    ],
)
def test_says_what_must_hold(served_by, change, message):
    sound = {
        "grid_V2": np.ones((2, 2), np.int32), "keys_G": np.arange(2, dtype=np.uint64),
        "visits_G": np.zeros(2, np.uint64),
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"plan_masks: .*{message}"):
        served_by(**(sound | change), seed=0, config=MaskConfig())


@pytest.mark.parametrize("served_by", [plan_masks, plan_masks_reference])
@pytest.mark.parametrize("seed", [-1, 1 << 64, 1 << 70])
def test_a_seed_is_any_64_bits(served_by, seed):
    views = np.ones((2, 2), np.int32), np.arange(2, dtype=np.uint64), np.zeros(2, np.uint64)
    message = rf"^plan_masks: seed must be 0 to 2\*\*64 - 1, got {seed}; set another seed"
    with pytest.raises(ValueError, match=message):
        served_by(*views, seed, MaskConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"grid_V2": np.ones((2, 2), np.int64)},
            r"grid_V2 must be contiguous int32 \[2, 2\], got int64 \[2, 2\]",
        ),
        (
            {"grid_V2": np.ones((2, 3), np.int32)},
            r"grid_V2 must be contiguous int32 \[2, 2\], got int32 \[2, 3\]",
        ),
        ({"grid_V2": np.array(1, np.int32)}, "global views must be among the 0 views, got 2"),
        ({"visits_G": np.zeros(3, np.uint64)}, r"visits_G must be contiguous uint64 \[2\], got uint64 \[3\]"),
        ({"odds": float("nan")}, "odds must be 0 to 1, got nan; set masks.odds"),
        ({"odds": 1.5}, "odds must be 0 to 1, got 1.5"),
        ({"low": 0.6}, "ratio must be low, high with 0 <= low <= high <= 1, got 0.6"),
        ({"aspects_Q": np.ones(7)}, r"aspects_Q must be contiguous float64 \[4096\], got float64 \[7\]"),
        ({"aspects_Q": np.zeros(4096)}, "aspects must be positive, got 0.0"),
        ({"aspects_Q": np.full(4096, np.inf)}, "aspects must be positive, got inf"),
    ],
)
def test_the_binding_checks_what_it_is_handed(change, message):
    sound = {
        "grid_V2": np.full((2, 2), 4, np.int32), "keys_G": np.arange(2, dtype=np.uint64),
        "visits_G": np.zeros(2, np.uint64), "seed": 0, "odds": 0.5, "low": 0.1, "high": 0.5,
        "aspects_Q": log_uniform(*ASPECT),
    }  # fmt: skip
    assert len(_core.plan_masks(**sound)) == 3
    with pytest.raises(ValueError, match=f"plan_masks: {message}"):
        _core.plan_masks(**(sound | change))


def test_where_nothing_is_hidden_all_patches_of_the_globals_are_asked_about():
    """Two globals of 2x3 and 1x2 patches, a local one of 2x2."""
    masks = all_patches(np.array([[2, 3], [1, 2], [2, 2]], np.int32), 2)
    assert not masks.mask_N.any()
    assert len(masks.mask_N) == 12
    np.testing.assert_array_equal(masks.masked_M, np.arange(8))
    np.testing.assert_array_equal(masks.weight_M, np.float32([1 / 6] * 6 + [1 / 2] * 2))
