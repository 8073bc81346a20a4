"""Patches that the student never gets: how many, which, and that packs are filled for what is left."""

import numpy as np
import pytest
from made_sizes import MadeDataset, make_lane, make_packer, packs_of

from aqqua.plan.masks import MaskConfig
from aqqua.plan.token_drop import dropped_patches, plan_drops
from aqqua.plan.view_config import ViewConfig

PATCHES = np.array([1, 2, 4, 7, 16, 64, 255, 256], np.int32)
KEYS = np.arange(1, 9, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def drops(share: float, mask_N: np.ndarray | None = None, visit: int = 0, seed: int = 5) -> list[np.ndarray]:
    """Of each view of PATCHES."""
    mask_N = np.zeros(PATCHES.sum(), bool) if mask_N is None else mask_N
    visits = np.full(len(PATCHES), visit, np.uint64)
    found = plan_drops(PATCHES, np.full(len(PATCHES), share), mask_N, KEYS, visits, seed)
    return np.split(found, np.cumsum(PATCHES)[:-1])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_each_view_loses_its_share_rounded_down(share):
    assert [int(view.sum()) for view in drops(share)] == [int(n * share) for n in PATCHES]
    assert (dropped_patches(PATCHES, share) < PATCHES).all()


def test_hidden_patches_stay():
    mask_N = np.random.default_rng(0).random(PATCHES.sum()) < 0.2
    found = drops(0.5, mask_N)
    assert not (np.concatenate(found) & mask_N).any()
    assert [int(view.sum()) for view in found] == [int(n * 0.5) for n in PATCHES]


def test_a_view_loses_the_same_patches_whatever_it_stands_with():
    together = drops(0.5)
    for v in (3, 5, 7):
        one = slice(v, v + 1)
        mask, visit = np.zeros(PATCHES[v], bool), np.zeros(1, np.uint64)
        alone = plan_drops(PATCHES[one], np.array([0.5]), mask, KEYS[one], visit, 5)
        np.testing.assert_array_equal(alone, together[v])


def test_other_visits_views_and_seeds_lose_others_and_every_place_alike():
    first = drops(0.5)[-1]
    for other in (drops(0.5, visit=1)[-1], drops(0.5, seed=6)[-1]):
        assert 0.3 < (first != other).mean() < 0.7
    lost = np.mean([drops(0.25, visit=visit)[5] for visit in range(400)], axis=0)
    assert abs(lost - 0.25).max() < 0.11  # five deviations of 400 draws


def test_packs_are_filled_with_what_is_left():
    """The token budget holds more images; nothing else of the plan of an image changes."""
    lane = make_lane(MadeDataset(600, block_rows=50), lanes=1, pack_tokens=4000)
    usual = packs_of(make_packer(lane), 5)[0]
    fewer = packs_of(make_packer(lane, ViewConfig(token_drop=(0.4, 0.25))), 5)[0]
    assert all(pack.dropped_N is None for pack in usual)
    assert sum(p.n_images for p in fewer) > 1.15 * sum(p.n_images for p in usual)
    for pack in fewer:
        assert 0.9 < pack.fill <= 1
        assert not (pack.dropped_N & pack.mask_N).any()
        n_global = 2 * pack.n_images
        share_V = np.where(np.arange(pack.n_views) < n_global, 0.4, 0.25)
        want_V = np.floor(pack.patches_V * share_V)
        lost_V = np.add.reduceat(pack.dropped_N, pack.patch_offsets_V1[:-1], dtype=int)
        np.testing.assert_array_equal(lost_V, want_V)
    np.testing.assert_array_equal(fewer[0].grid_V2[0], usual[0].grid_V2[0])
    np.testing.assert_array_equal(fewer[0].map_V23[0], usual[0].map_V23[0])


def test_a_share_that_hidden_patches_need_is_refused():
    lane = make_lane(MadeDataset(200), lanes=1)
    views = ViewConfig(token_drop=(0.6, 0.0))
    with pytest.raises(ValueError, match=r"leave the 50% that iBOT may ask about, got 0\.6; lower it"):
        make_packer(lane, views)
    make_packer(lane, views, MaskConfig(odds=0))
    make_packer(lane, views, MaskConfig(ratio=(0.1, 0.4)))
    with pytest.raises(ValueError, match=r"token_drop must be 0 to 0\.75"):
        ViewConfig(token_drop=(0.8, 0.0))
