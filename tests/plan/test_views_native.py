"""plan_views in C++ against its specification in NumPy: the same bits for any image and config."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sizes import isiis_like, mixed, sizes
from PIL import Image

from aqqua import _core
from aqqua.plan import views as views_module
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views, plan_views_reference, whole_views
from aqqua.store.sizes import Sizes

WORD = st.integers(0, (1 << 64) - 1)
SIDE = st.one_of(st.integers(1, 600), st.integers(1, 5), st.integers(600, 20_000), st.just((1 << 31) - 1))
CONFIGS = {
    "default": ViewConfig(),
    "upright": ViewConfig(rotate=False),
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
        global_area=(1e-6, 1e-6), local_area=(1e-6, 1e-6), aspect=(1e-6, 1e-6), scale_jitter=(1e-6, 1e-6)
    ),
    "largest": ViewConfig(
        global_area=(1, 1e6), local_area=(1, 1e6), aspect=(1e-6, 1e6), scale_jitter=(1e-6, 1e6),
        max_reduce=1e6, gain=(0, 1e6), offset=(-1e6, 1e6), blur_sigma_px=(0, 1e6), noise=(0, 1e6), std=1e-6,
    ),
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


ANY_CONFIG = st.builds(
    ViewConfig,
    locals=st.integers(0, 16),
    global_area=bounds(1e-6, 2),
    local_area=bounds(1e-6, 2),
    aspect=bounds(0.01, 100),
    rotate=st.booleans(),
    scale_jitter=bounds(0.01, 100),
    min_tokens=st.tuples(st.integers(1, 400), st.integers(1, 50)),
    max_tokens=st.tuples(st.integers(400, 5000), st.integers(50, 500)),
    max_magnify=st.floats(1, 100),
    max_reduce=st.floats(1, 100),
    gain=bounds(0, 3),
    offset=bounds(-1, 1),
    photometric_odds=st.floats(0, 1),
    invert_odds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    blur=st.sampled_from(["paper", "released"]),
    blur_sigma_px=bounds(0, 5),
    local_blur_odds=st.floats(0, 1),
    noise=bounds(0, 1),
    subtract_background=st.booleans(),
    mean=st.floats(-1, 1),
    std=st.floats(0.01, 1),
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


def three(**changes: object) -> Sizes:
    """Three images, the middle one changed."""
    images = sizes([40, 50, 60], [60, 50, 40], keys=mixed(np.arange(3)))
    for name, value in changes.items():
        values = getattr(images, name).copy()
        values[1] = value
        images = replace(images, **{name: values})
    return images


SCALE_RULE = "um_per_px of image 1 must be 1e-30 to 1e30, or NaN where unknown, got "
WRONG_IMAGES = {
    "no rows": ({"height": 0}, "height and width of image 1 must be at least 1 px, got 0 x 50; leave it out"),
    "negative": ({"width": -4}, "height and width of image 1 must be at least 1 px, got 50 x -4; leave it"),
    "bits": ({"bits": 12}, "bits of image 1 must be 8 or 16, got 12; ingest it again"),
    "no scale": ({"um_per_px": 0}, SCALE_RULE + "0.0; ingest it again"),
    "negative scale": ({"um_per_px": -3}, SCALE_RULE + "-3.0; ingest it again"),
    "infinite scale": ({"um_per_px": np.inf}, SCALE_RULE + "inf; ingest it again"),
}


@pytest.mark.parametrize("served_by", [plan_views, plan_views_reference])
@pytest.mark.parametrize(("change", "message"), WRONG_IMAGES.values(), ids=WRONG_IMAGES.keys())
def test_says_which_image_is_wrong(served_by, change, message):
    with pytest.raises(ValueError, match=f"^plan_views: {message}"):
        served_by(three(**change), np.zeros(3, np.uint64), 0, 8, ViewConfig())


@pytest.mark.parametrize(("change", "message"), WRONG_IMAGES.values(), ids=WRONG_IMAGES.keys())
def test_whole_views_ask_the_same(change, message):
    with pytest.raises(ValueError, match=f"^whole_views: {message}"):
        whole_views(three(**change), 8, 256, 16, ViewConfig())


@pytest.mark.parametrize("served_by", [plan_views, plan_views_reference])
@pytest.mark.parametrize(
    ("visit", "seed", "message"),
    [
        (1 << 32, 0, "visit of image 1 must be below 2\\*\\*32, got 4294967296; count visits from 0"),
        (0, -1, "seed must be 0 to 2\\*\\*64 - 1, got -1; set another seed"),
        (0, 1 << 64, "seed must be 0 to 2\\*\\*64 - 1, got 18446744073709551616; set another seed"),
    ],
)
def test_says_which_draw_is_wrong(served_by, visit, seed, message):
    with pytest.raises(ValueError, match=message):
        served_by(three(), np.array([0, visit, 0], np.uint64), seed, 8, ViewConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": np.ones(3)}, "height_I must be contiguous int32 \\[3\\], got float64 \\[3\\]; take them"),
        ({"width": np.ones(2, np.int32)}, "width_I must be contiguous int32 \\[3\\], got int32 \\[2\\]"),
        ({"key": np.ones(3, np.int64)}, "key_I must be contiguous uint64 \\[3\\], got int64 \\[3\\]"),
        ({"key": np.ones((3, 1), np.uint64)}, "key_I must be contiguous uint64 \\[3\\], got uint64 \\[3, 1"),
        ({"bits": np.ones(3, np.uint8)}, "bits_I must be contiguous int8"),
        ({"um_per_px": np.ones(3)}, "um_per_px_I must be contiguous float32"),
        ({"background": np.ones(3, np.uint16)}, "background_I3 must be contiguous uint16 \\[3, 3\\]"),
        ({"box": np.ones((3, 2), np.int32)}, "box_I4 must be contiguous int32 \\[3, 4\\]"),
    ],
)
def test_says_which_array_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        plan_views(replace(three(), **change), np.zeros(3, np.uint64), 0, 8, ViewConfig())


@pytest.fixture
def passed(monkeypatch) -> dict[str, object]:
    """What plan_views hands to C++ for three images."""
    taken: dict[str, object] = {}

    class Listener:
        @staticmethod
        def plan_views(**arguments: object) -> dict[str, np.ndarray]:
            taken.update(arguments)
            return _core.plan_views(**arguments)

    monkeypatch.setattr(views_module, "_core", Listener)
    plan_views(three(), np.zeros(3, np.uint64), 0, 8, ViewConfig(locals=0))
    return taken


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("visit_I", np.zeros(2, np.uint64), "visit_I must be contiguous uint64 \\[3\\], got uint64 \\[2\\]"),
        ("visit_I", np.zeros(3, np.int64), "visit_I must be contiguous uint64 \\[3\\], got int64 \\[3\\]"),
        ("visit_I", np.zeros(6, np.uint64)[::2], "visit_I must be contiguous uint64 \\[3\\], got uint64"),
        ("patch_px", 0, "patch_px must be 1 to 1024, got 0; set model.patch_px"),
        ("patch_px", 1025, "patch_px must be 1 to 1024, got 1025"),
        ("blur_odds_S", np.zeros(0), "an image must have 1 to 64 views, got 0; lower views.locals"),
        ("blur_odds_S", np.zeros(65), "an image must have 1 to 64 views, got 65"),
        ("blur_odds_S", np.zeros(3), "area_S2 must be contiguous float64 \\[3, 2\\], got float64 \\[2, 2\\]"),
        ("blur_odds_S", np.array([0, 1.5]), "blur_odds_S must be 0.0 to 1.0, got 1.5"),
        ("invert_odds_S", np.array([NAN, 0]), "invert_odds_S must be 0.0 to 1.0, got nan"),
        ("area_S2", np.array([[0.1, 0.2], [0, 1]]), "area_S2 must be 1e-06 to 1000000.0, got 0.0; correct"),
        ("tokens_S2", np.array([[1, 2], [0, 3]], np.int32), "tokens_S2 must be 1.0 to 4194304.0, got 0.0"),
        ("tokens_S2", np.full((2, 2), 1 << 23, np.int32), "tokens_S2 must be .*, got 8388608.0"),
        ("directions_Q2", np.zeros((4095, 2)), "directions_Q2 must be contiguous float64 \\[4096, 2\\]"),
        ("directions_Q2", np.full((4096, 2), 1.5), "directions_Q2 must be -1.0 to 1.0, got 1.5"),
        ("aspect_Q", np.ones(4097), "aspect_Q must be contiguous float64 \\[4096\\], got float64 \\[4097\\]"),
        ("aspect_Q", np.full(4096, np.inf), "aspect_Q must be 1e-06 to 1000000.0, got inf"),
        ("zoom_Q", np.ones(4096, np.float32), "zoom_Q must be contiguous float64 \\[4096\\], got float32"),
        ("max_magnify", 0.5, "max_magnify must be 1.0 to 1000000.0, got 0.5"),
        ("max_reduce", NAN, "max_reduce must be 1.0 to 1000000.0, got nan"),
        ("offset", (0.0, np.inf), "offset must be -1000000.0 to 1000000.0, got inf"),
        ("photometric_odds", 2.0, "photometric_odds must be 0.0 to 1.0, got 2.0"),
        ("blur_sigma_px", (NAN, 1.0), "blur_sigma_px must be 0.0 to 1000000.0, got nan"),
        ("noise", (0.0, -1.0), "noise must be 0.0 to 1000000.0, got -1.0"),
        ("mean", np.inf, "mean must be -1000000.0 to 1000000.0, got inf"),
        ("std", 0.0, "std must be 1e-06 to 1000000.0, got 0.0"),
    ],
)
def test_says_which_argument_is_wrong(passed, name, wrong, message):
    assert name in passed
    with pytest.raises(ValueError, match=f"^plan_views: {message}"):
        _core.plan_views(**{**passed, name: wrong})
