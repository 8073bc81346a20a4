"""The config of views: what it refuses, and that the renderers take whatever it lets through."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_views import plan
from pydantic import ValidationError

from aqqua.plan.footprint import LARGEST_SIGMA
from aqqua.plan.view_config import ViewConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"global_area": (1.0, 0.3)}, "global_area must be low, high with low <= high, got 1.0, 0.3; swap"),
        ({"scale_jitter": (0.0, 1.0)}, "scale_jitter must be positive"),
        ({"min_tokens": (300, 4)}, "min_tokens must be 1 to max_tokens, got \\(300, 4\\)"),
        ({"aspect": (1e-7, 1.0)}, "aspect must be positive, at least 1e-06, got 1e-07; raise its low end"),
        ({"gain": (0.0, 1e7)}, "gain must be within ±1e\\+06, got 0.0, 10000000.0; bring it nearer 0"),
        ({"max_tokens": (1 << 23, 64)}, "max_tokens must be up to 4194304, got \\(8388608, 64\\); lower"),
        ({"offset": (0.0, float("inf"))}, "Input should be a finite number"),
        ({"noise": (-0.1, 0.1)}, "noise must be at least 0"),
        ({"invert_odds": (0.0, 1.2)}, "invert_odds must be 0 to 1"),
        (
            {"solarize_odds": (-0.1, 0)},
            "solarize_odds must be 0 to 1, got \\(-0.1, 0.0\\); give shares",
        ),
        ({"speck_radius": (0.1, 1.1)}, "speck_radius must be 0 to 1, got .*; give shares of the view's"),
        ({"speck_depth": (0.9, 0.1)}, "speck_depth must be low, high with low <= high, got 0.9, 0.1; swap"),
        ({"saturation": (-1, 1)}, "saturation must be at least 0, got \\(-1.0, 1.0\\); raise its low end"),
        ({"hue": (-1.5, 0)}, "hue must be -1 to 1 turns, got \\(-1.5, 0.0\\); bring it nearer 0"),
        ({"specks": 9}, "less than or equal to 8"),
        ({"grey_odds": 1.1}, "less than or equal to 1"),
        (
            {"geometry": "square", "max_tokens": (256, 50)},
            "max_tokens must be squares of whole numbers where geometry is square, got \\(256, 50\\); give",
        ),
        ({"locals": 17}, "less than or equal to 16"),
        ({"nosie": (0, 1)}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_config_says_what_must_hold(wrong, message):
    with pytest.raises(ValidationError, match=message):
        ViewConfig(**wrong)


SIGMA = r"must keep sigma up to 1000 source px, got "


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"blur_sigma_px": (0.1, 1000.0)},
            SIGMA + r"8000 \(blur 1000 px at zoom 0.125\); lower",
        ),
        ({"max_reduce": 1000.0}, SIGMA + r"2061.55 \(blur 2 px at zoom 0.001\)"),
        ({"scale_jitter": (1e-6, 1.0)}, SIGMA + r"2.06155e\+06 .* or raise scale_jitter's low end"),
        ({"blur_sigma_px": (0.0, 0.0), "max_reduce": 2001.0}, SIGMA + r"1000.5 \(blur 0 px at zoom 0.00049"),
    ],
)
def test_a_blur_that_no_renderer_takes_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        ViewConfig(**wrong)


@given(
    jitter=st.floats(1e-4, 10),
    reduce=st.floats(1, 3000),
    share=st.floats(0, 1),
    side=st.sampled_from([1, 300, 20_000]),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=200, deadline=None)
def test_the_renderers_take_every_blur_of_a_config_that_is_let_through(jitter, reduce, share, side, seed):
    blur = share * 1000 * min(jitter, 1 / reduce)  # about what is let through, from both sides
    options = {"scale_jitter": (jitter, 10.0), "max_reduce": reduce, "blur_sigma_px": (blur, blur)}
    try:
        config = ViewConfig(**options, local_blur_odds=1, max_tokens=(16, 4))
    except ValidationError as error:
        assert "must keep sigma" in str(error)  # noqa: PT017 - nothing else may be wrong with it
        return
    assert (plan([side] * 20, [side] * 20, config, seed=seed).sigma_IS <= LARGEST_SIGMA).all()


def test_the_bound_is_no_tighter_than_it_must_be():
    config = ViewConfig(scale_jitter=(0.01, 0.01), min_tokens=(1, 1), blur_sigma_px=(9.9, 9.9))
    sigma = plan([2000] * 9, [2000] * 9, config).sigma_IS[:, 0]
    np.testing.assert_allclose(sigma, np.hypot(50, 990), rtol=1e-3)
