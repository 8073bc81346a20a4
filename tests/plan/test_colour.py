"""Colour jitter: a matrix that turns hue and scales chroma, and leaves luma, greys and grey images alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sizes import isiis_like, sizes
from made_views import visits

from aqqua.kernels.render import reference as kernel_reference
from aqqua.plan.colour import LUMA, colour_matrix, hues, quarter_turn
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views

ONE = np.ones((1, 1))
GREY = np.array([LUMA] * 3)


def matrix(turns: float, saturation: float) -> np.ndarray:
    angle = 2 * np.pi * turns
    return colour_matrix(ONE * np.cos(angle), ONE * np.sin(angle), ONE * saturation)[0, 0]


def plan(channels: int, count: int = 500, **options: object) -> Views:
    """Views of images with a coloured background."""
    images = replace(
        sizes(*isiis_like(count)),
        channels=np.full(count, channels, np.int8),
        background=np.tile(np.array([200, 90, 30], np.uint16), (count, 1)),
    )
    return plan_views(images, visits(count), 3, 8, ViewConfig.model_validate(options))


@given(st.floats(-1, 1), st.floats(0, 3))
def test_luma_and_greys_stay(turns, saturation):
    made = matrix(turns, saturation)
    np.testing.assert_allclose(np.array(LUMA) @ made, LUMA, atol=1e-12)
    np.testing.assert_allclose(made @ np.ones(3), 1, atol=1e-12)


def test_no_jitter_is_the_identity_to_the_bit():
    assert np.array_equal(colour_matrix(ONE, ONE * 0, ONE)[0, 0], np.eye(3))
    assert (hues(0.0, 0.0) == [1, 0]).all()


def test_without_saturation_only_luma_is_left():
    np.testing.assert_allclose(matrix(0.3, 0), GREY, atol=1e-15)


def test_quarter_turns_add_up():
    chroma = np.eye(3) - GREY
    np.testing.assert_allclose(quarter_turn() @ quarter_turn(), -chroma, atol=1e-12)
    np.testing.assert_allclose(matrix(0.25, 1), GREY + quarter_turn(), atol=1e-12)
    np.testing.assert_allclose(matrix(0.1, 1) @ matrix(0.15, 1), matrix(0.25, 1), atol=1e-12)
    np.testing.assert_allclose(matrix(0.1, 0.5) @ matrix(-0.1, 2), np.eye(3), atol=1e-12)


def test_a_third_of_a_turn_takes_red_to_green_or_blue():
    """In YIQ the primaries lie about 120° apart; which way round is its definition's."""
    red = np.array([1.0, 0, 0])
    assert {int(np.argmax(matrix(turns, 1) @ red)) for turns in (1 / 3, -1 / 3)} == {1, 2}


def test_grey_images_are_untouched():
    odd = {"grey_odds": 0.5, "hue": (-0.5, 0.5), "saturation": (0, 3)}
    assert (plan(1, **odd).colour_IS33 == np.eye(3, dtype=np.float32)).all()
    plain, odder = plan(1), plan(1, **odd)
    assert np.array_equal(plain.bias_ISC, odder.bias_ISC)


def test_drawn_colours_keep_luma_to_float32():
    drawn = plan(3, hue=(-0.5, 0.5), saturation=(0, 2)).colour_IS33.astype(np.float64)
    np.testing.assert_allclose(np.array(LUMA) @ drawn, np.broadcast_to(LUMA, (500, 10, 3)), atol=1e-6)
    np.testing.assert_allclose(drawn @ np.ones(3), 1, atol=1e-6)


def test_saturation_and_odds_are_those_of_the_config():
    drawn = plan(3, 2000, saturation=(0.5, 1.5), hue=(0, 0), grey_odds=0.25).colour_IS33
    # Without a turn the matrix is luma + s · chroma, whose trace is 1 + 2 s.
    saturation = (np.trace(drawn.astype(np.float64), axis1=-2, axis2=-1) - 1) / 2
    grey = np.abs(saturation) < 1e-6
    assert grey.mean() == pytest.approx(0.25, abs=0.01)
    as_it_is = (drawn == np.eye(3, dtype=np.float32)).all(axis=(-1, -2))
    assert as_it_is.mean() == pytest.approx(0.2 * 0.75, abs=0.01)  # not lit, not made grey
    others = saturation[~grey & ~as_it_is]
    assert others.min() == pytest.approx(0.5, abs=0.01)
    assert others.max() == pytest.approx(1.5, abs=0.01)
    assert others.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("subtract_background", [True, False])
def test_a_background_becomes_its_own_colour_or_nothing(subtract_background):
    config = {"offset": (0, 0), "hue": (0.1, 0.1), "photometric_odds": 1}
    views = plan(3, subtract_background=subtract_background, **config)
    tinted = views.colour_IS33.astype(np.float64) @ (np.array([200, 90, 30]) / 255)
    value = views.scale_IS[..., None] * tinted + views.bias_ISC
    want = 0 if subtract_background else (tinted - 0.5) / 0.25
    np.testing.assert_allclose(value, np.broadcast_to(want, value.shape), atol=1e-5)


def test_a_model_of_one_channel_sees_nothing_of_it():
    """Luma of what the matrices add to the bias is 0."""
    off, on = plan(3, hue=(0, 0), saturation=(1, 1)), plan(3, hue=(-0.4, 0.4), saturation=(0, 2))
    assert np.abs(off.bias_ISC - on.bias_ISC).max() > 0.1
    np.testing.assert_allclose(on.bias_ISC @ np.array(LUMA), off.bias_ISC @ np.array(LUMA), atol=1e-5)


# NTSC's own figures (FCC, 1953), from which the code's are rounded.
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@pytest.mark.parametrize("turn", [-0.25, 0.02, 0.1, 1 / 3, 0.5])
def test_hue_turns_in_the_chroma_plane_of_yiq(turn):
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    expected = np.linalg.inv(YIQ) @ rotation @ YIQ
    found = colour_matrix(np.array([[cos]]), np.array([[sin]]), np.ones((1, 1)))[0, 0]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_planning_and_rendering_mean_the_same_grey():
    assert kernel_reference.LUMA == LUMA
