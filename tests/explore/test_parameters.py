"""What a page says of a view is what was drawn, read back from the plan."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.explore.parameters import parameters_of
from aqqua.plan.cut import affine
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import footprint_sigma
from aqqua.store.sizes import Sizes


@dataclass(frozen=True)
class Made:
    """Two images without pixels: colour of 8 bits and known scale, grey of 16 bits and unknown scale."""

    blocks: int = 1

    def sizes(self, _block: int, /) -> Sizes:
        return Sizes(
            key=np.array([11, 12], np.uint64),
            height=np.array([300, 200], np.int32),
            width=np.array([200, 260], np.int32),
            channels=np.array([3, 1], np.int8),
            bits=np.array([8, 16], np.int8),
            um_per_px=np.array([2.5, np.nan], np.float32),
            background=np.array([[200, 150, 100], [40000, 40000, 40000]], np.uint16),
            box=np.array([[20, 30, 200, 150], [0, 0, 200, 260]], np.int32),
            instrument=np.zeros(2, np.int32),
            instrument_names=("made",),
        )


def made_pack(config: ViewConfig) -> Pack:
    lane = Lane(Made(), LaneConfig(lanes=1, window_blocks=1, pack_tokens=4000), 0, seed=5)
    packer = Packer(lane, patch_px=14, prefix_tokens=1, views=config, masks=MaskConfig())
    return packer.next_pack(LaneState())[0]


@pytest.mark.parametrize("subtract_background", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_config_asks_for_is_read_back(subtract_background, channels):
    config = ViewConfig(
        locals=2, rotate=False, flip=False, scale_jitter=(0.8, 0.8), gain=(1.3, 1.3), offset=(0.05, 0.05),
        std=0.2, photometric_odds=1, invert_odds=(0, 1), blur_sigma_px=(1.5, 1.5), local_blur_odds=1,
        noise=(0.01, 0.01), subtract_background=subtract_background, max_tokens=(400, 300),
    )  # fmt: skip
    pack = made_pack(config)
    names = set()
    for v in range(pack.n_views):
        found = parameters_of(pack, v, config, channels, scale_hidden=False)
        names.add(found.name)
        assert found.grid == tuple(pack.grid_V2[v])
        assert (found.angle_deg, found.mirrored) == (0, False)
        assert found.gain == pytest.approx(1.3, rel=1e-5)
        assert found.offset == pytest.approx(0.05, abs=1e-5)
        assert found.noise == pytest.approx(0.01, rel=1e-5)
        assert found.inverted == (found.name == "G2")
        if found.name != "G2":  # blurred in one view of ten
            assert found.blur_px == pytest.approx(1.5, abs=1e-3)
            assert found.sigma_source_px > 1.5 / 0.8  # antialiasing comes on top
        image = pack.image_V[v]
        known = pack.sizes.bits[image] == 8
        assert np.isnan(found.um_per_px) == np.isnan(found.blur_um) == (not known)
        if known:
            assert found.um_per_px == pytest.approx(2.5 / found.zoom, rel=1e-5)
            assert found.blur_um == pytest.approx(found.blur_px * found.um_per_px)
    assert names == {"G1", "G2", "L1", "L2"}


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_specks_and_solarizing_are_read_back(channels):
    config = ViewConfig(
        locals=2, hue=(0.1, 0.1), saturation=(0.7, 0.7), offset=(0.05, 0.05), photometric_odds=1,
        solarize_odds=(0, 1), specks=3, speck_odds=1, max_tokens=(400, 300),
    )  # fmt: skip
    pack = made_pack(config)
    for v in range(pack.n_views):
        found = parameters_of(pack, v, config, channels, scale_hidden=False)
        has_colour = pack.sizes.channels[pack.image_V[v]] == 3
        assert found.saturation == pytest.approx(0.7 if has_colour else 1, abs=1e-5)
        assert found.hue == pytest.approx(0.1 if has_colour else 0, abs=1e-5)
        assert found.offset == pytest.approx(0.05, abs=1e-5)
        assert found.solarized == (found.name == "G2")
        assert found.specks == (pack.speck_VK4[v, :, 2] > 0).sum() > 0
        assert found.stretch == pytest.approx(1, abs=1e-5)


def test_a_view_without_chroma_has_no_hue_and_a_square_one_is_stretched():
    config = ViewConfig(augmentation="dinov2", grey_odds=1, max_tokens=(256, 49))
    pack = made_pack(config)
    for v in range(pack.n_views):
        found = parameters_of(pack, v, config, 3, scale_hidden=False)
        assert found.saturation == (0 if pack.sizes.channels[pack.image_V[v]] == 3 else 1)
        assert found.hue == pytest.approx(0, abs=1e-9)
        across, down = np.linalg.norm(pack.map_V23[v, :, :2].astype(np.float64), axis=0)
        assert found.stretch == pytest.approx(down / across, rel=1e-5)
        assert found.zoom == pytest.approx((across * down) ** -0.5, rel=1e-5)


def test_no_disturbance_is_said_to_be_none():
    config = ViewConfig(
        rotate=False, flip=False, scale_jitter=(1, 1), photometric_odds=0, invert_odds=(0, 0),
        blur_sigma_px=(0, 0), noise=(0, 0), max_tokens=(400, 300),
    )  # fmt: skip
    pack = made_pack(config)
    for v in range(pack.n_views):
        found = parameters_of(pack, v, config, 1, scale_hidden=True)
        assert (found.gain, found.inverted, found.blur_px, found.noise) == (1, False, 0, 0)
        assert found.offset == pytest.approx(0, abs=1e-6)
        assert found.scale_hidden


@given(
    degrees=st.floats(0, 359.9),
    zoom=st.floats(0.125, 4),
    mirrored=st.booleans(),
    blur_px=st.one_of(st.just(0.0), st.floats(0.1, 5)),
)
def test_angle_mirror_zoom_and_blur_are_read_from_any_map(degrees, zoom, mirrored, blur_px):
    one = np.ones((1, 1))
    cos, sin = one * np.cos(np.radians(degrees)), one * np.sin(np.radians(degrees))
    flip = -one if mirrored else one
    map_IS23 = affine(
        np.array([[[28, 42]]]), np.stack([one, one], -1) * zoom, cos, sin, flip, one * 50, one * 60
    )
    sigma = footprint_sigma(one * blur_px, one * zoom)
    pack = made_pack(ViewConfig(locals=0, max_tokens=(400, 300)))
    pack = replace(
        pack,
        map_V23=np.repeat(map_IS23[0].astype(np.float32), pack.n_views, axis=0),
        sigma_V=np.full(pack.n_views, sigma[0, 0], np.float32),
    )
    found = parameters_of(pack, 0, ViewConfig(), 1, scale_hidden=False)
    turn = abs(found.angle_deg - degrees)
    assert min(turn, 360 - turn) < 1e-3
    assert found.mirrored == mirrored
    assert found.zoom == pytest.approx(zoom, rel=1e-5)
    assert found.blur_px == pytest.approx(blur_px, abs=1e-2)


def test_a_quarter_turn_by_hand():
    """Output x runs down the image: the rectangle is turned clockwise by 90°, as seen on a screen."""
    pack = made_pack(ViewConfig(locals=0, max_tokens=(400, 300)))
    turned = np.array([[0, -1, 30], [1, 0, 10]], np.float32)
    mirrored = np.array([[0, -1, 30], [-1, 0, 10]], np.float32)
    for map_23, is_mirrored in ((turned, False), (mirrored, True)):
        maps = np.repeat(map_23[None], pack.n_views, axis=0)
        found = parameters_of(replace(pack, map_V23=maps), 0, ViewConfig(), 1, scale_hidden=False)
        assert (found.angle_deg, found.mirrored, found.zoom) == (90, is_mirrored, 1)
