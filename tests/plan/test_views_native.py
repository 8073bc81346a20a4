"""plan_views in C++ against its specification in NumPy: the same bits for any image and config."""

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import isiis_like, sizes
from PIL import Image

from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views, plan_views_reference
from aqqua.store.sizes import Sizes

WORD = st.integers(0, (1 << 64) - 1)
SIDE = st.one_of(st.integers(1, 600), st.integers(1, 5), st.integers(600, 20_000), st.just((1 << 31) - 1))
CONFIGS = {
    "default": ViewConfig(),
    "upright": ViewConfig(rotate=False, flip=False),
    "released_blur": ViewConfig(blur="released"),
    "background_kept": ViewConfig(subtract_background=False, mean=0.3, std=0.11),
    "globals_only": ViewConfig(locals=0),
    "sixteen_locals": ViewConfig(locals=16),
    "one_token": ViewConfig(min_tokens=(1, 1), max_tokens=(1, 1)),
    "no_cap": ViewConfig(min_tokens=(1, 1), max_tokens=(1 << 22, 1 << 22)),
    "highest_floor": ViewConfig(min_tokens=(1 << 22, 49), max_tokens=(1 << 22, 49), max_magnify=1e6),
    "always": ViewConfig(invert_odds=(1, 1), photometric_odds=1, local_blur_odds=1),
    "never": ViewConfig(invert_odds=(0, 0), photometric_odds=0, local_blur_odds=0, noise=(0, 0)),
    "smallest": ViewConfig(
        global_area=(1e-6, 1e-6), local_area=(1e-6, 1e-6), aspect=(1e-6, 1e-6), scale_jitter=(3e-3, 3e-3)
    ),
    "largest": ViewConfig(
        global_area=(1, 1e6), local_area=(1, 1e6), aspect=(1e-6, 1e6), scale_jitter=(0.1, 1e6),
        max_reduce=10, gain=(0, 1e6), offset=(-1e6, 1e6), blur_sigma_px=(0, 99), noise=(0, 1e6), std=1e-6,
    ),
    "dinov2": ViewConfig(augmentation="dinov2"),
    "solarized_only": ViewConfig(solarize_odds=(0.5, 0.5), grey_odds=0, saturation=(1, 1), hue=(0, 0)),
    "turned_squares": ViewConfig(
        augmentation="dinov2", rotate=True, organism_aware=True, max_reduce=1, max_tokens=(1 << 22, 1),
        min_tokens=(1, 1), aspect=(1e-6, 1e6), global_area=(1e-6, 1e6),
    ),
    "colour": ViewConfig(hue=(-1, 1), saturation=(0, 1e6), grey_odds=0.3, solarize_odds=(0.5, 1)),
    "specks": ViewConfig(specks=8, speck_odds=0.7, speck_radius=(0, 1), speck_depth=(0, 1), flip=False),
    "strongest_reduction": ViewConfig(max_reduce=1999, scale_jitter=(5.1e-4, 1e6), blur_sigma_px=(0, 0)),
}  # fmt: skip


def images_like(heights: list[int], widths: list[int], seed: int) -> Sizes:
    """Images with these sides and everything else drawn: scale, bits, colours, boxes in and out of them."""
    draw = np.random.default_rng(seed)
    n = len(heights)
    um = (10.0 ** draw.uniform(-30, 30, n)).astype(np.float32).clip(1e-30, 1e30)
    um[draw.random(n) < 0.3] = np.nan
    sides = np.stack([heights, widths, heights, widths], axis=1).astype(np.float64)
    return replace(
        sizes(heights, widths, keys=draw.integers(0, 1 << 64, n, np.uint64)),
        bits=draw.choice(np.array([8, 16], np.int8), n),
        um_per_px=um,
        background=draw.integers(0, 1 << 16, (n, 3), np.uint16),
        box=(draw.uniform(-0.5, 1.5, (n, 4)) * sides).clip(-(1 << 31), (1 << 31) - 1).astype(np.int32),
        channels=draw.choice(np.array([1, 3], np.int8), n),
    )


def assert_same_bits(
    images: Sizes, visits: np.ndarray, seed: int, patch_px: int, config: ViewConfig
) -> Views:
    got = plan_views(images, visits, seed, patch_px, config)
    want = plan_views_reference(images, visits, seed, patch_px, config)
    for field in fields(Views):
        ours, theirs = getattr(got, field.name), getattr(want, field.name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), field.name
        differing = np.argwhere(ours.view(np.int32) != theirs.view(np.int32))
        assert not len(differing), (field.name, differing[:3])
        assert field.name == "um_per_px_IS" or np.isfinite(theirs).all(), field.name
        assert ours.flags.c_contiguous
    return got


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@given(
    sides=st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=12),
    patch_px=st.sampled_from([1, 8, 14, 16, 1024]),
    seed=WORD,
    others=st.integers(0, 1 << 32),
    visit=st.integers(0, (1 << 32) - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_images_under_any_config(config, sides, patch_px, seed, others, visit):
    images = images_like([side[0] for side in sides], [side[1] for side in sides], others)
    assert_same_bits(images, np.full(len(sides), visit, np.uint64), seed, patch_px, config)


def bounds(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    number = st.floats(low, high)
    return st.tuples(number, number).map(sorted).map(tuple)


ANY = dict(
    locals=st.integers(0, 16),
    global_area=bounds(1e-6, 2),
    local_area=bounds(1e-6, 2),
    aspect=bounds(0.01, 100),
    rotate=st.booleans(),
    flip=st.booleans(),
    organism_aware=st.booleans(),
    scale_jitter=bounds(0.01, 100),
    min_tokens=st.tuples(st.integers(1, 400), st.integers(1, 49)),
    max_magnify=st.floats(1, 100),
    max_reduce=st.floats(1, 100),
    gain=bounds(0, 3),
    offset=bounds(-1, 1),
    saturation=bounds(0, 3),
    hue=bounds(-1, 1),
    photometric_odds=st.floats(0, 1),
    grey_odds=st.floats(0, 1),
    solarize_odds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    specks=st.integers(0, 8),
    speck_odds=st.floats(0, 1),
    speck_radius=bounds(0, 1),
    speck_depth=bounds(0, 1),
    invert_odds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    blur=st.sampled_from(["paper", "released"]),
    blur_sigma_px=bounds(0, 5),
    local_blur_odds=st.floats(0, 1),
    noise=bounds(0, 1),
    subtract_background=st.booleans(),
    mean=st.floats(-1, 1),
    std=st.floats(0.01, 1),
)
SQUARES = st.tuples(st.integers(20, 70), st.integers(7, 22)).map(lambda sides: (sides[0] ** 2, sides[1] ** 2))
CAPS = st.tuples(st.integers(400, 5000), st.integers(50, 500))
ANY_CONFIG = st.builds(ViewConfig, **ANY, max_tokens=CAPS) | st.builds(
    ViewConfig, **ANY, geometry=st.just("square"), max_tokens=SQUARES
)


@given(ANY_CONFIG, WORD, st.integers(1, 100), st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_any_config(config, seed, patch_px, others):
    height, width = isiis_like(40, others)
    images = images_like(height.tolist(), width.tolist(), others)
    assert_same_bits(images, np.arange(40, dtype=np.uint64), seed, patch_px, config)


@pytest.mark.parametrize("count", range(71))
def test_any_number_of_images(count):
    height, width = isiis_like(max(count, 1), count)
    images = images_like(height[:count].tolist(), width[:count].tolist(), count)
    views = assert_same_bits(images, np.arange(count, dtype=np.uint64), 7, 16, ViewConfig(locals=3))
    assert views.map_IS23.shape == (count, 5, 2, 3)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_thousands_of_images(config):
    height, width = isiis_like(2000)
    images = images_like(height.tolist(), width.tolist(), 1)
    assert_same_bits(images, np.arange(2000, dtype=np.uint64), 3, 16, config)


def test_the_real_sizes_of_isiis(real_data):
    with zipfile.ZipFile(real_data / "isiis-ndsb.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::20]
        widths, heights = zip(*(Image.open(archive.open(name)).size for name in names), strict=True)
    images = images_like(list(heights), list(widths), 0)
    assert_same_bits(images, np.zeros(len(images), np.uint64), 0, 14, ViewConfig())


PINNED_GRIDS = [[8, 5, 4, 6, 2, 3, 4, 3], [10, 13, 19, 13, 6, 7, 6, 10], [2, 8, 6, 3, 3, 2, 6, 1]]
PINNED_MAP = [3206766835, 3211589319, 1122397313, 1064105671, 3206766835, 1119430163]


def test_a_plan_never_changes():
    """The numbers of the first release; a run that resumes relies on them."""
    images = sizes([55, 200, 3], [70, 90, 500])
    views = plan_views(images, np.array([0, 1, 2], np.uint64), 5, 8, ViewConfig(locals=2))
    assert views.grid_IS2.reshape(3, -1).tolist() == PINNED_GRIDS
    assert views.map_IS23[1, 0].view(np.uint32).ravel().tolist() == PINNED_MAP


BEFORE_COLOUR = ("grid_IS2", "map_IS23", "um_per_px_IS", "sigma_IS", "scale_IS", "bias_ISC", "noise_IS")
PINNED = "d8e1778800ae141f009d7428688e76c6c38f62be57223d2e063d2bf262fc4f55"


@pytest.mark.parametrize("channels", [1, 3])
def test_plans_without_colour_and_specks_are_those_made_before_there_were_any(channels):
    """The digest was made by the release before them."""
    draw = np.random.default_rng(3)
    images = replace(
        sizes(*isiis_like(300), um_per_px=59.0),
        bits=draw.choice(np.array([8, 16], np.int8), 300),
        channels=draw.choice(np.array([1, channels], np.int8), 300),
        background=draw.integers(0, 256, (300, 3)).astype(np.uint16),
    )
    config = ViewConfig() if channels == 1 else ViewConfig(saturation=(1, 1), hue=(0, 0))
    views = plan_views(images, np.arange(300, dtype=np.uint64), 5, 14, config)
    digest = hashlib.sha256()
    for name in BEFORE_COLOUR:
        digest.update(getattr(views, name).tobytes())
    assert digest.hexdigest() == PINNED


def test_strided_arrays_are_taken_too():
    images, rows = sizes(*isiis_like(15)), np.arange(15)
    apart = images.take(np.repeat(rows, 2))
    names = [field.name for field in fields(Sizes) if field.name != "instrument_names"]
    strided = replace(apart, **{name: getattr(apart, name)[::2] for name in names})
    visits = np.repeat(rows, 2).astype(np.uint64)[::2]
    got, want = (plan_views(each, visits, 1, 8, ViewConfig()) for each in (strided, images))
    np.testing.assert_array_equal(got.map_IS23, want.map_IS23)


def test_threads_plan_alike():
    images = sizes(*isiis_like(500))
    visits = np.zeros(500, np.uint64)
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: plan_views(images, visits, 1, 8, ViewConfig()), range(12)))
    assert all(plan.map_IS23.tobytes() == plans[0].map_IS23.tobytes() for plan in plans)
