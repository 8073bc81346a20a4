"""Packs: full, never over the budget, no image lost or doubled, every array about the same views."""

import dataclasses
import zipfile
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from made_sizes import MadeDataset, isiis_like, make_lane, make_packer, sizes
from PIL import Image

from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig, plan_masks
from aqqua.plan.pack import Pack, Packer, drop_scores, hide_scale, whole_packs
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views, whole_views
from aqqua.store.read import Sizes

FEW_VIEWS = ViewConfig(locals=1, max_tokens=(64, 16))


def packs_of(packer: Packer, count: int, state: LaneState | None = None) -> tuple[list[Pack], LaneState]:
    state, packs = state or LaneState(), []
    for _ in range(count):
        pack, state = packer.next_pack(state)
        packs.append(pack)
    return packs, state


@pytest.fixture(scope="module")
def pack() -> Pack:
    lane = make_lane(
        MadeDataset(4000, block_rows=128), 1, lanes=2, seed=4, weights=lambda _: np.full(128, 1.5)
    )
    return packs_of(make_packer(lane), 3)[0][2]


def test_packs_are_full_on_sizes_like_those_of_isiis():
    packs, _ = packs_of(make_packer(make_lane(MadeDataset(20_000), lanes=8, pack_tokens=16384)), 60)
    fills = [pack.fill for pack in packs]
    assert np.mean(fills) >= 0.98
    assert min(fills) >= 0.94
    assert max(fills) <= 1


@dataclasses.dataclass(frozen=True)
class RealDataset:
    """The sides of real images, from their headers."""

    sides: np.ndarray
    blocks: int

    def sizes(self, block: int):
        first = block * 512
        part = self.sides[first : first + 512]
        return sizes(part[:, 0], part[:, 1], keys=np.arange(first, first + len(part)))


@pytest.mark.parametrize("patch_px", [8, 14])
def test_packs_are_full_on_the_real_sizes_of_isiis(real_data, patch_px):
    with zipfile.ZipFile(real_data / "isiis-ndsb.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::4]
        opened = [Image.open(archive.open(name)).size for name in names]
    sides = np.random.default_rng(0).permutation(np.array(opened)[:, ::-1])
    dataset = RealDataset(sides, len(sides) // 512)
    lane = Lane(dataset, LaneConfig(lanes=2, pack_tokens=16384), 0, 0)  # type: ignore[arg-type]
    fills = [pack.fill for pack in packs_of(make_packer(lane, patch_px=patch_px), 40)[0]]
    assert np.mean(fills) >= 0.98
    assert max(fills) <= 1


@pytest.mark.parametrize("weight", [1.0, 1.7])
def test_no_image_is_lost_or_doubled(weight):
    dataset = MadeDataset(1500, block_rows=50)
    lane = make_lane(
        dataset, 2, lanes=3, window_blocks=1, pack_tokens=2048, weights=lambda _: np.full(50, weight)
    )
    packer, state = make_packer(lane, FEW_VIEWS), LaneState()
    used: Counter[tuple[int, int, int]] = Counter()
    for _ in range(60):
        pack, state = packer.next_pack(state)
        used.update(zip(pack.block_I.tolist(), pack.row_I.tolist(), pack.visit_I.tolist(), strict=True))
    order: list[tuple[int, int, int]] = []
    for number in range(state.window + 4):
        window = lane.window(number)
        order += zip(window.block_E.tolist(), window.row_E.tolist(), window.visit_E.tolist(), strict=True)
    begin = sum(len(lane.window(number)) for number in range(state.window)) + state.index
    ahead = [order[begin + j] for j in range(64) if state.taken >> j & 1]
    assert state.window > 8
    assert state.taken
    assert used == Counter(order[:begin] + ahead)
    assert max(used.values()) == 1


def test_no_image_waits_longer_than_the_look_ahead():
    """Packs begin at the first image not yet used, so a large one is never put off for ever."""
    packer, state = make_packer(make_lane(MadeDataset(4000), lanes=1, pack_tokens=4096)), LaneState()
    for _ in range(30):
        pack, after = packer.next_pack(state)
        window = packer.lane.window(state.window)
        first = (window.block_E[state.index], window.row_E[state.index])
        assert (pack.block_I[0], pack.row_I[0]) == first
        assert pack.tokens <= 4096
        state = after


def test_the_rest_of_a_pack_takes_the_largest_that_fits():
    """Whole images as views, so that their tokens are known: 2 · (10 · rows + CLS) each."""
    config = ViewConfig(
        locals=0, rotate=False, scale_jitter=(1.0, 1.0), global_area=(1.0, 1.0), aspect=(1.0, 1.0),
        min_tokens=(1, 1),
    )  # fmt: skip

    class Given:
        blocks = 1

        def sizes(self, _block):
            return sizes([80, 80, 80, 40, 16, 56, 24, 24], [80] * 8)

    def tokens_of(window: int) -> np.ndarray:
        return 2 * (packer.lane.window(window).sizes.height // 8 * 10 + 1)

    lane = make_lane(Given(), lanes=1, window_blocks=1, pack_tokens=5 * 102)
    packer = Packer(
        lane,
        patch_px=8,
        prefix_tokens=1,
        views=config.model_copy(update={"max_tokens": (100, 100)}),
        masks=MaskConfig(),
    )
    tokens = np.concatenate([tokens_of(window) for window in range(10)])
    pack, state = packer.next_pack(LaneState())
    room, first = 510, 0
    while tokens[first] <= room:
        room -= tokens[first]
        first += 1
    taken = []
    for j in sorted(range(first + 1, first + 64), key=lambda j: (-tokens[j], j)):
        if tokens[j] <= room:
            taken.append(j)
            room -= tokens[j]
    assert taken
    assert pack.tokens == 510 - room
    assert (state.window, state.index) == divmod(first, 8)
    assert state.taken == sum(1 << (j - first) for j in taken)


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
    masks = plan_masks(pack.grid_V2[:n], pack.key_V[:n], visits, 4, MaskConfig())
    for v, mask in enumerate(masks):
        mine = pack.mask_N[pack.patch_offsets_V1[v] : pack.patch_offsets_V1[v + 1]]
        np.testing.assert_array_equal(mine, np.zeros_like(mine) if mask is None else mask)


def test_no_masks_where_none_are_wanted():
    lane = make_lane(MadeDataset(200), lanes=1)
    pack, _ = make_packer(lane, masks=MaskConfig(odds=0)).next_pack(LaneState())
    assert not pack.mask_N.any()
    assert len(pack.masked_M) == len(pack.weight_M) == 0


def test_a_budget_below_the_largest_image_is_an_error():
    lane = make_lane(MadeDataset(200), lanes=1, pack_tokens=1073)
    with pytest.raises(ValueError, match="pack_tokens must hold the views of the largest image, 1074 tokens"):
        make_packer(lane)
    make_packer(make_lane(MadeDataset(200), lanes=1, pack_tokens=1074))


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


@pytest.mark.parametrize("budget", [261, 600, 4096, 1 << 20])
def test_whole_packs_show_every_row_once_in_order(budget):
    images = sizes(*isiis_like(300))
    options = {"patch_px": 8, "prefix_tokens": 5, "budget_tokens": budget}
    packs = list(whole_packs(images, 7, views=ViewConfig(), **options))
    assert np.concatenate([pack.row_I for pack in packs]).tolist() == list(range(300))
    planned = whole_views(images, 8, 256, 16, ViewConfig())
    for name, theirs in (("grid_V2", "grid_IS2"), ("map_V23", "map_IS23"), ("bias_VC", "bias_ISC")):
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
