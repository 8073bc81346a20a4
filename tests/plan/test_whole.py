"""Whole views, and packs of them for embedding: every image once, in row order, upright and all of it."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_sizes import isiis_like, sizes
from made_views import SIDES, zoom

from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import whole_views
from aqqua.plan.whole import whole_packs
from aqqua.store.sizes import Sizes


@pytest.mark.parametrize("budget", [261, 600, 4096, 1 << 20])
def test_whole_packs_show_every_row_once_in_order(budget):
    images = sizes(*isiis_like(300))
    options = {"patch_px": 8, "prefix_tokens": 5, "budget_tokens": budget}
    packs = list(whole_packs(images, 7, views=ViewConfig(), **options))
    assert np.concatenate([pack.row_I for pack in packs]).tolist() == list(range(300))
    planned = whole_views(images, 8, 256, 16, ViewConfig())
    fields = (
        ("grid_V2", "grid_IS2"), ("map_V23", "map_IS23"), ("bias_VC", "bias_ISC"),
        ("speck_VK4", "speck_ISK4"), ("colour_V33", "colour_IS33"), ("fold_VC", "fold_ISC"),
    )  # fmt: skip
    for name, theirs in fields:
        together = np.concatenate([getattr(pack, name) for pack in packs])
        np.testing.assert_array_equal(together, getattr(planned, theirs)[:, 0])
    for pack, after in zip(packs, [*packs[1:], None], strict=True):
        assert (pack.block_I == 7).all()
        assert pack.tokens <= budget
        assert pack.n_views == pack.n_images == len(pack.sizes)
        assert len(pack.mask_N) == pack.patch_offsets_V1[-1]
        assert not pack.mask_N.any()
        if after is not None:
            assert pack.tokens + after.patches_V[0] + 5 > budget


def test_whole_packs_need_room_for_the_largest_image():
    def pack_all(images: Sizes, budget: int) -> list[Pack]:
        options = {"patch_px": 8, "prefix_tokens": 5, "budget_tokens": budget}
        return list(whole_packs(images, 0, views=ViewConfig(), **options))

    with pytest.raises(ValueError, match=r"must hold the largest image, 261 tokens, got 260; raise it"):
        pack_all(sizes(128, 128), 260)
    assert pack_all(sizes([], []), 260) == []


@given(SIDES, st.sampled_from([8, 14, 16]))
@settings(max_examples=150, deadline=None)
def test_a_whole_view_shows_the_whole_image_upright(sides, patch_px):
    views = whole_views(sizes(*sides), patch_px, 256, 16, ViewConfig())
    linear, shift = views.map_IS23[0, 0, :, :2], views.map_IS23[0, 0, :, 2]
    assert linear[0, 1] == linear[1, 0] == 0
    assert linear[0, 0] > 0
    assert linear[1, 1] > 0
    far = linear @ (views.grid_IS2[0, 0, ::-1] * patch_px) + shift
    # At most a quarter of a patch falls off each rim; the margin is the same on both sides.
    quarter = 0.2501 * patch_px / zoom(views)[0, 0] + 0.01
    assert (shift <= quarter).all()
    assert (far >= np.array(sides[::-1]) - quarter).all()
    np.testing.assert_allclose(shift, np.array(sides[::-1]) - far, atol=0.02, rtol=1e-4)
    assert views.noise_IS[0, 0] == 0


def test_a_whole_view_keeps_the_scale_between_floor_and_cap():
    height, width = isiis_like(2000)
    views = whole_views(sizes(height, width, um_per_px=59.0), 8, 256, 16, ViewConfig())
    patches = height * width / 64
    kept = (patches > 16) & (patches < 180)
    assert kept.mean() > 0.7
    np.testing.assert_allclose(views.um_per_px_IS[kept, 0], 59, rtol=1e-6)
    np.testing.assert_array_equal(views.sigma_IS[kept], 0)
    assert (views.patches_IS() <= 256).all()


@given(SIDES)
@settings(max_examples=50, deadline=None)
def test_a_whole_view_of_square_views_is_stretched_to_the_square(sides):
    images = sizes(*sides)
    config = ViewConfig(augmentation="dinov2")
    assume(max(sides) <= 224 * config.max_reduce)
    views = whole_views(images, 14, 256, 16, config)
    assert views.grid_IS2[0, 0].tolist() == [16, 16]
    linear, shift = views.map_IS23[0, 0, :, :2], views.map_IS23[0, 0, :, 2]
    assert linear[0, 1] == linear[1, 0] == 0
    far = linear @ np.array([224.0, 224.0]) + shift
    width_height = np.array([images.width[0], images.height[0]], float)
    np.testing.assert_allclose(shift, 0, atol=1e-3 * width_height.max())
    np.testing.assert_allclose(far, width_height, rtol=1e-3)
    area_zoom = 224**2 / np.prod(width_height)
    np.testing.assert_allclose(views.um_per_px_IS[0, 0] ** 2, images.um_per_px[0] ** 2 / area_zoom, rtol=1e-4)
