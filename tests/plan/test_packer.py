"""From a lane's order to packs: full, no image lost or doubled, the same from C++ and Python."""

import dataclasses
import zipfile
from collections import Counter

import numpy as np
import pytest
from made_sizes import MadeDataset, make_lane, make_packer, packs_of, sizes
from PIL import Image

from aqqua.plan.fill import fill_reference
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig, plan_masks_reference
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views, plan_views_reference
from aqqua.store.sizes import Sizes

FEW_VIEWS = ViewConfig(locals=1, max_tokens=(64, 16))


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


def test_a_budget_below_the_largest_image_is_an_error():
    lane = make_lane(MadeDataset(200), lanes=1, pack_tokens=1073)
    with pytest.raises(ValueError, match="pack_tokens must hold the views of the largest image, 1074 tokens"):
        make_packer(lane)
    make_packer(make_lane(MadeDataset(200), lanes=1, pack_tokens=1074))


def half_of(block: int) -> np.ndarray:
    return np.random.default_rng(block).integers(0, 3, 50) / 2


def one_or_none(block: int) -> np.ndarray:
    return np.where(np.arange(50) == 7, block % 2, 0.0)


@pytest.mark.parametrize(
    ("lane", "views", "masks", "weights"),
    [
        ({"pack_tokens": 16384}, ViewConfig(), MaskConfig(), None),
        ({"pack_tokens": 1100, "lanes": 3}, ViewConfig(), MaskConfig(odds=1, ratio=(0, 1)), half_of),
        ({"pack_tokens": 6000, "window_blocks": 1}, FEW_VIEWS, MaskConfig(odds=0), None),
        ({"pack_tokens": 2048, "window_blocks": 2}, ViewConfig(locals=0), MaskConfig(odds=0.1), half_of),
        ({"pack_tokens": 2048, "window_blocks": 1}, ViewConfig(), MaskConfig(), one_or_none),
    ],
    ids=["large packs", "small packs", "small windows", "only globals", "empty windows"],
)
@pytest.mark.parametrize("seed", [3, (1 << 64) - 1])
def test_packs_are_bit_for_bit_those_of_the_references(monkeypatch, lane, views, masks, weights, seed):
    dataset = MadeDataset(1500, block_rows=50)

    def plan():
        packer = make_packer(make_lane(dataset, seed=seed, weights=weights, **lane), views, masks)
        return packs_of(packer, 4)

    packs, state = plan()
    monkeypatch.setattr("aqqua.plan.packer.fill", fill_reference)
    monkeypatch.setattr("aqqua.plan.packer.plan_masks", plan_masks_reference)
    monkeypatch.setattr("aqqua.plan.packer.plan_views", plan_views_reference)
    want, want_state = plan()
    assert state == want_state
    for pack, other in zip(packs, want, strict=True):
        for part, other_part in ((pack, other), (pack.sizes, other.sizes)):
            for field in dataclasses.fields(part):
                values, expected = getattr(part, field.name), getattr(other_part, field.name)
                if isinstance(values, np.ndarray):
                    assert values.dtype == expected.dtype
                    np.testing.assert_array_equal(values, expected)
                elif not isinstance(values, Sizes):
                    assert values == expected


def test_packs_over_many_windows_plan_each_of_them_once(monkeypatch):
    lane = make_lane(
        MadeDataset(5000, block_rows=50), lanes=1, window_blocks=1, pack_tokens=4096, weights=one_or_none
    )
    asked: list[int] = []
    window = Lane.window
    monkeypatch.setattr(Lane, "window", lambda self, number: asked.append(number) or window(self, number))
    packs, state = packs_of(make_packer(lane), 3)
    assert min(pack.fill for pack in packs) > 0.9
    assert asked == list(range(len(asked)))
    assert state.window > 30


def test_each_pack_draws_its_patch_side_and_a_lane_forgets_nothing():
    """All of three sides come up; a packer that starts anywhere makes the same packs; no image is lost."""
    views = ViewConfig(patch_choices=(8, 12, 16))
    lane = make_lane(MadeDataset(1500, block_rows=50), lanes=1, window_blocks=2, pack_tokens=3000)
    packer = make_packer(lane, views)
    state, packs, states = LaneState(), [], []
    while state.window < 15:  # an epoch: 30 blocks of 50 images
        states.append(state)
        pack, state = packer.next_pack(state)
        packs.append(pack)
    sides = [pack.patch_px for pack in packs]
    assert set(sides) == {8, 12, 16}
    assert min(sides.count(side) for side in (8, 12, 16)) > len(sides) / 5
    for number in (3, len(packs) // 2):
        again, _ = make_packer(lane, views).next_pack(states[number])
        assert again.patch_px == sides[number]
        np.testing.assert_array_equal(again.grid_V2, packs[number].grid_V2)
        np.testing.assert_array_equal(again.row_I, packs[number].row_I)
    places = [zip(pack.block_I, pack.row_I, pack.visit_I, strict=True) for pack in packs]
    seen = [(block, row) for pack in places for block, row, visit in pack if visit == 0]
    assert len(seen) == len(set(seen)) == 1500
    want = plan_views(packs[0].sizes, packs[0].visit_I, lane.seed, sides[0], views)
    np.testing.assert_array_equal(packs[0].um_per_px_V, want.um_per_px_IS.T.ravel())


def test_without_choices_the_models_side_is_every_packs():
    pack, _ = make_packer(make_lane(MadeDataset(200), lanes=1), patch_px=14).next_pack(LaneState())
    assert pack.patch_px == 14
