"""What planning of views refuses, in the same words from C++, from its specification and for whole images."""

from dataclasses import replace

import numpy as np
import pytest
from made_sizes import mixed, sizes

from aqqua import _core
from aqqua.plan import views as views_module
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views, plan_views_reference, whole_views
from aqqua.store.sizes import Sizes


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


@pytest.mark.parametrize("patch_px", [0, -8, 1025, 5000])
def test_says_which_patch_is_wrong(patch_px):
    message = f"patch_px must be 1 to 1024, got {patch_px}; set model.patch_px"
    for served_by in (plan_views, plan_views_reference):
        with pytest.raises(ValueError, match=f"^plan_views: {message}"):
            served_by(three(), np.zeros(3, np.uint64), 0, patch_px, ViewConfig())
    with pytest.raises(ValueError, match=f"^whole_views: {message}"):
        whole_views(three(), patch_px, 256, 16, ViewConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": np.ones(3)}, "height_I must be contiguous int32 \\[3\\], got float64 \\[3\\]; take them"),
        ({"width": np.ones(2, np.int32)}, "width_I must be contiguous int32 \\[3\\], got int32 \\[2\\]"),
        ({"key": np.ones(3, np.int64)}, "key_I must be contiguous uint64 \\[3\\], got int64 \\[3\\]"),
        ({"key": np.ones((3, 1), np.uint64)}, "key_I must be contiguous uint64 \\[3\\], got uint64 \\[3, 1"),
        ({"channels": np.ones(3, np.int32)}, "channels_I must be contiguous int8 \\[3\\], got int32"),
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
        ("patch_px", 1 << 70, "patch_px must be 1 to 1024, got 1180591620717411303424"),
        ("patch_px", 8.5, "patch_px must be 1 to 1024, got 8.5"),
        ("seed", "7", "seed must be 0 to 2\\*\\*64 - 1, got 7; set another seed"),
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
        ("solarize_odds_S", np.array([0, -0.1]), "solarize_odds_S must be 0.0 to 1.0, got -0.1; correct"),
        ("hue_Q2", np.zeros((4096, 3)), "hue_Q2 must be contiguous float64 \\[4096, 2\\], got float64"),
        ("hue_Q2", np.full((4096, 2), 1.5), "hue_Q2 must be -1.0 to 1.0, got 1.5"),
        ("quarter_turn_33", np.full((3, 3), NAN), "quarter_turn_33 must be -10.0 to 10.0, got nan"),
        ("saturation", (-1.0, 1.0), "saturation must be 0.0 to 1000000.0, got -1.0"),
        ("grey_odds", 1.5, "grey_odds must be 0.0 to 1.0, got 1.5"),
        ("specks", 9, "specks must be 0 to 8, got 9; correct views in the config"),
        ("specks", -1, "specks must be 0 to 8, got -1"),
        ("speck_odds", NAN, "speck_odds must be 0.0 to 1.0, got nan"),
        ("speck_radius", (0.0, 2.0), "speck_radius must be 0.0 to 1.0, got 2.0"),
        ("speck_depth", (-1.0, 1.0), "speck_depth must be 0.0 to 1.0, got -1.0"),
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
