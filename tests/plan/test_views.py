"""Views planned from sizes alone: what every image may rely on, whatever its size."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import isiis_like, sizes
from made_views import CALM, SIDES, WIDE, plan, visits, zoom

from aqqua.plan.cut import log_uniform
from aqqua.plan.footprint import LARGEST_SIGMA, footprint_sigma
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views, whole_views

UM_PER_PX = [float("nan"), 1e-30, 0.01, 3.4, 59.0, 1e3, 1e30]


def centre(views: Views, patch_px: int = 8) -> np.ndarray:
    """Source point (x, y) in the middle of each view."""
    middle = views.grid_IS2[..., ::-1] * patch_px / 2
    return (views.map_IS23[..., :2] @ middle[..., None])[..., 0] + views.map_IS23[..., 2]


def reach(views: Views, patch_px: int = 8) -> np.ndarray:
    """Half the extent of each view along source x and y, source px."""
    half = views.grid_IS2[..., ::-1] * patch_px / 2
    return (np.abs(views.map_IS23[..., :2]) @ half[..., None])[..., 0]


@given(SIDES, st.sampled_from([8, 14, 16]), st.sampled_from(UM_PER_PX), st.integers(0, (1 << 64) - 1))
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("whole", [False, True])
def test_any_size_gives_finite_views_that_keep_the_physical_size(whole, sides, patch_px, um, key):
    config = ViewConfig()
    images = sizes(*sides, um_per_px=um, keys=key)
    if whole:
        views = whole_views(images, patch_px, config.max_tokens[0], config.min_tokens[0], config)
    else:
        views = plan_views(images, visits(1), 5, patch_px, config)

    for field in fields(Views):
        if field.name != "um_per_px_IS":
            assert np.isfinite(getattr(views, field.name)).all(), field.name
    tokens = views.patches_IS()[0]
    assert (views.grid_IS2 >= 1).all()
    assert (tokens[:2] <= config.max_tokens[0]).all()
    assert (tokens[2:] <= config.max_tokens[1]).all()
    assert (views.sigma_IS <= LARGEST_SIGMA).all()
    factor = zoom(views)
    # A view's side in µm is the same in its own pixels and in the source's.
    expected = np.float64(np.float32(um)) / factor
    np.testing.assert_allclose(views.um_per_px_IS, expected, rtol=1e-5, equal_nan=True)
    low, high = 1 / config.max_reduce, config.max_magnify
    assert (factor <= high * (1 + 1e-5)).all()
    if not whole:
        assert (factor >= low * (1 - 1e-5)).all()
    middle = centre(views, patch_px)
    assert ((middle >= -0.01) & (middle <= np.array(sides[::-1]) + 0.01)).all()


@given(st.integers(2000, 20_000), st.floats(1, 4))
@settings(max_examples=30, deadline=None)
def test_an_image_beyond_the_strongest_reduction_is_cut_to_a_crop_not_to_a_strip(width, ratio):
    views = plan(int(width * ratio), width)
    assert (views.patches_IS()[:, :2] > 0.8 * 256).all()
    longest, shortest = views.grid_IS2.max(-1), views.grid_IS2.min(-1)
    assert (longest / shortest <= 1.6 * ratio * 4 / 3).all()


def test_areas_are_the_shares_aimed_at():
    views = plan(np.full(3000, 260), np.full(3000, 300), CALM)
    share = views.patches_IS() * 64 / (260 * 300)
    for part, (low, high) in ((share[:, :2], CALM.global_area), (share[:, 2:], CALM.local_area)):
        assert part.mean() == pytest.approx((low + high) / 2, rel=0.04)
        quarters = np.quantile(part, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quarters, low + (high - low) * np.array([0.25, 0.5, 0.75]), rtol=0.06)
        assert 0.85 * low < part.min()
        assert part.max() < 1.1 * high


def test_shape_follows_the_image_and_the_aspect_range():
    still = CALM.model_copy(update={"rotate": False, "flip": False})
    views = plan(np.full(2000, 200), np.full(2000, 400), still)
    ratio = views.grid_IS2[:, 0, 1] / views.grid_IS2[:, 0, 0]
    assert np.median(ratio) == pytest.approx(2, rel=0.06)
    assert ratio.min() > 2 * 0.65
    assert ratio.max() < 2 * 1.55
    np.testing.assert_array_equal(views.map_IS23[..., 0, 1], 0)
    assert (views.map_IS23[..., 0, 0] > 0).all()


def test_scale_jitter_is_log_uniform_in_its_range():
    factor = zoom(plan(np.full(500, 200), np.full(500, 200), WIDE))
    assert factor.min() == pytest.approx(0.8, rel=0.01)
    assert factor.max() == pytest.approx(1.25, rel=0.01)
    assert np.log(factor).mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("side", "role"), [(30, slice(0, 2)), (30, slice(2, None)), (12, slice(0, 2))])
def test_small_views_are_magnified_to_the_floor_but_no_more_than_allowed(side, role):
    config = ViewConfig(scale_jitter=(1.0, 1.0))
    views = plan(np.full(500, side), np.full(500, side), config)
    floor = config.min_tokens[0 if role.start == 0 else 1]
    factor, tokens = zoom(views)[:, role], views.patches_IS()[:, role]
    assert (factor >= 1 - 1e-5).all()
    assert factor.max() > 1.05
    bounded = factor > 2 - 1e-4
    # Sides are whole patches: 1.49 × 10.7 of them become 1 × 11, no worse.
    assert (tokens[~bounded] >= 0.68 * floor).all()
    if side == 12:
        assert bounded.all()
    else:
        assert tokens[~bounded].mean() >= 0.95 * floor


def test_large_views_are_reduced_to_the_cap():
    views = plan(np.full(500, 700), np.full(500, 500), ViewConfig(scale_jitter=(1.0, 1.0)))
    tokens = views.patches_IS()
    assert (tokens[:, :2] <= 256).all()
    assert tokens[:, :2].min() > 0.85 * 256
    assert (zoom(views)[:, :2] < 0.9).all()
    expected = footprint_sigma(np.zeros_like(zoom(views)), zoom(views))
    assert (views.sigma_IS >= expected * (1 - 1e-5)).all()  # never sampled without its antialiasing


def test_every_angle_and_both_flips_occur_alike():
    views = plan(np.full(3000, 100), np.full(3000, 130))
    linear = views.map_IS23[..., :2].astype(np.float64)
    angle = np.arctan2(-linear[..., 0, 1], linear[..., 1, 1])  # of the down axis, which no flip touches
    counts = np.histogram(angle, bins=36, range=(-np.pi, np.pi))[0]
    assert np.abs(counts / counts.mean() - 1).max() < 0.15
    flipped = np.linalg.det(linear) < 0
    assert flipped.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(flipped.ravel(), angle.ravel())[0, 1]) < 0.02


BOX = (150, 40, 180, 120)  # top, left, bottom, right in an image of 200 × 400: off the middle on both axes


@pytest.mark.parametrize("box", [BOX, (0, 0, 200, 400), (0, 390, 10, 400), (100, 100, 101, 101)])
def test_views_centre_on_the_organism_as_far_as_they_stay_in_the_image(box):
    views = plan(np.full(400, 200), np.full(400, 400), CALM, box=box)
    middle, half = centre(views), reach(views)
    side, low, high = np.array([400, 200]), np.array(box)[[1, 0]], np.array(box)[[3, 2]]
    fits = half <= side / 2
    inside = (middle - half >= -0.01) & (middle + half <= side + 0.01)
    assert inside[fits].all()
    np.testing.assert_allclose(middle[~fits], np.broadcast_to(side / 2, middle.shape)[~fits], atol=0.01)
    at_rim = (np.abs(middle - half) < 0.01) | (np.abs(middle + half - side) < 0.01)
    on_box = (middle >= low - 0.01) & (middle <= high + 0.01)
    assert (on_box | at_rim | ~fits).all()


def share_that_shows(views: Views, point: tuple[float, float]) -> float:
    """Share of the local views that hold a source point."""
    linear = views.map_IS23[..., :2].astype(np.float64)
    own = np.linalg.solve(linear, (np.array(point) - views.map_IS23[..., 2])[..., None])[..., 0]
    inside = np.all((own >= 0) & (own <= views.grid_IS2[..., ::-1] * 8), axis=-1)
    return float(np.mean(inside, axis=0)[2:].mean())


def test_the_middle_of_an_organism_is_in_most_local_views():
    middle = ((BOX[1] + BOX[3]) / 2, (BOX[0] + BOX[2]) / 2)
    biased = share_that_shows(plan(np.full(400, 200), np.full(400, 400), CALM, box=BOX), middle)
    anywhere = share_that_shows(plan(np.full(400, 200), np.full(400, 400), CALM), middle)
    assert biased > 0.75
    assert biased > 2 * anywhere


def test_an_images_views_do_not_depend_on_the_images_beside_it():
    images = sizes(*isiis_like(60))
    visit = np.arange(60, dtype=np.uint64)
    whole = plan_views(images, visit, 3, 8, ViewConfig())
    order = np.random.default_rng(0).permutation(60)
    mixed = plan_views(images.take(order), visit[order], 3, 8, ViewConfig())
    one = plan_views(images.take(np.array([17])), visit[17:18], 3, 8, ViewConfig())
    for field in fields(Views):
        np.testing.assert_array_equal(getattr(mixed, field.name), getattr(whole, field.name)[order])
        np.testing.assert_array_equal(getattr(one, field.name)[0], getattr(whole, field.name)[17])


@pytest.mark.parametrize("change", [{"visit": 1}, {"visit": 1 << 24}, {"seed": 1}, {"seed": 1 << 32}])
def test_each_visit_and_seed_sees_other_views(change):
    first, other = plan([200] * 50, [220] * 50), plan([200] * 50, [220] * 50, **change)
    assert (first.map_IS23 == other.map_IS23).mean() < 0.01


def test_views_of_one_image_differ():
    views = plan([200], [220])
    assert len(np.unique(views.map_IS23[0].reshape(10, -1), axis=0)) == 10


def test_log_uniform_quantiles_have_their_range_and_geometric_middle():
    values = log_uniform(0.25, 4.0)
    assert (np.diff(values) > 0).all()
    assert 0.25 < values[0] < values[-1] < 4
    assert np.log(values).mean() == pytest.approx(0, abs=1e-9)
