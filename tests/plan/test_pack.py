"""A pack: every array about the same views, masks and draws by the views' own keys."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from made_sizes import MadeDataset, make_lane, make_packer, packs_of

from aqqua.plan.lanes import LaneState
from aqqua.plan.masks import MaskConfig, plan_masks
from aqqua.plan.pack import Pack, drop_scores, hide_scale
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views


@pytest.fixture(scope="module")
def pack() -> Pack:
    lane = make_lane(
        MadeDataset(4000, block_rows=128), 1, lanes=2, seed=4, weights=lambda _: np.full(128, 1.5)
    )
    return packs_of(make_packer(lane), 3)[0][2]


def test_arrays_of_a_pack_are_about_the_same_views(pack):
    images, views = pack.n_images, pack.n_views
    assert views == 10 * images == len(pack.image_V)
    alone = plan_views(pack.sizes, pack.visit_I, 4, 8, ViewConfig())
    for s in range(10):
        for i in (0, 1, images - 1):
            v = s * images + i
            assert pack.image_V[v] == i
            for mine, theirs in (
                ("grid_V2", "grid_IS2"), ("map_V23", "map_IS23"), ("um_per_px_V", "um_per_px_IS"),
                ("sigma_V", "sigma_IS"), ("scale_V", "scale_IS"), ("bias_VC", "bias_ISC"),
                ("speck_VK4", "speck_ISK4"), ("colour_V33", "colour_IS33"), ("fold_VC", "fold_ISC"),
                ("noise_V", "noise_IS"),
            ):  # fmt: skip
                np.testing.assert_array_equal(getattr(pack, mine)[v], getattr(alone, theirs)[i, s])
    offsets = pack.patch_offsets_V1
    assert offsets[0] == 0
    np.testing.assert_array_equal(np.diff(offsets), pack.patches_V)
    assert pack.tokens == offsets[-1] + 5 * views
    assert pack.fill == pack.tokens / 16384
    assert len(np.unique(pack.key_V)) == len(np.unique(pack.sizes.key)) * 10
    np.testing.assert_array_equal(pack.key_V[:images], pack.sizes.key)


def test_images_of_a_pack_are_those_of_the_dataset(pack):
    dataset = MadeDataset(4000, block_rows=128)
    for i in range(pack.n_images):
        there = dataset.sizes(int(pack.block_I[i]))
        assert there.key[pack.row_I[i]] == pack.sizes.key[i]
        assert there.height[pack.row_I[i]] == pack.sizes.height[i]


def test_masks_of_a_pack_are_on_half_of_the_globals_and_weigh_one_per_view(pack):
    offsets, n_global = pack.patch_offsets_V1, 2 * pack.n_images
    hidden = np.array([pack.mask_N[a:b].sum() for a, b in pairwise(offsets)])
    assert not hidden[n_global:].any()
    masked = np.flatnonzero(hidden)
    assert len(masked) == n_global // 2
    assert (pack.patches_V[masked] >= 4).all()
    np.testing.assert_array_equal(pack.masked_M, np.flatnonzero(pack.mask_N))
    view_M = np.searchsorted(offsets, pack.masked_M, side="right") - 1
    np.testing.assert_allclose(np.bincount(view_M, pack.weight_M, len(hidden))[masked], 1, rtol=1e-5)
    np.testing.assert_allclose(pack.weight_M, 1 / hidden[view_M], rtol=1e-6)
    ratios = np.sort(hidden[masked] / pack.patches_V[masked])
    assert np.abs(ratios - np.linspace(0.1, 0.5, len(ratios))).max() < 0.1


def test_masks_are_drawn_by_each_views_own_key_and_visit(pack):
    assert len(np.unique(pack.visit_I)) > 1
    n = 2 * pack.n_images
    visits = pack.visit_I[pack.image_V[:n]]
    masks = plan_masks(pack.grid_V2, pack.key_V[:n], visits, 4, MaskConfig())
    for name in ("mask_N", "masked_M", "weight_M"):
        np.testing.assert_array_equal(getattr(pack, name), getattr(masks, name))


def test_no_masks_where_none_are_wanted():
    lane = make_lane(MadeDataset(200), lanes=1)
    pack, _ = make_packer(lane, masks=MaskConfig(odds=0)).next_pack(LaneState())
    assert not pack.mask_N.any()
    assert len(pack.masked_M) == len(pack.weight_M) == 0


def test_drop_scores_follow_the_view_not_its_pack(pack):
    scores = drop_scores(pack, 4, 17, 6)
    assert scores.shape == (6, 2, pack.n_views)
    assert scores.dtype == np.float32
    assert len(np.unique(scores[:, :, 0])) == 12
    assert scores.mean() == pytest.approx(0.5, abs=0.02)
    keep = np.arange(1, pack.n_views, 3)
    of_views = [f.name for f in dataclasses.fields(pack) if f.name.rpartition("_")[2].startswith("V")]
    part = dataclasses.replace(pack, **{name: getattr(pack, name)[keep] for name in of_views})
    np.testing.assert_array_equal(drop_scores(part, 4, 17, 6), scores[:, :, keep])
    for other in (drop_scores(pack, 4, 18, 6), drop_scores(pack, 5, 17, 6)):
        assert (other == scores).mean() < 0.01


def test_scale_is_hidden_at_its_odds_and_per_view(pack):
    assert hide_scale(pack, 0, 0.15).shape == (pack.n_views,)
    shares = [hide_scale(pack, seed, 0.15).mean() for seed in range(40)]
    assert np.mean(shares) == pytest.approx(0.15, abs=0.015)
    assert not hide_scale(pack, 0, 0.0).any()
    by_view = hide_scale(pack, 0, 0.5).reshape(10, -1)
    assert 0 < by_view.any(axis=0).mean() != by_view.all(axis=0).mean()
    later = dataclasses.replace(pack, visit_I=pack.visit_I + np.uint64(1))
    assert (hide_scale(later, 0, 0.5) != hide_scale(pack, 0, 0.5)).any()
