"""Thumbnails: sizes, scale bars, backgrounds, nothing enlarged."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aqqua.explore.atlas.thumbnails import BAR_ROOM_PX, LARGEST_PX, NARROWEST_PX, thumbnail


def opened(made) -> np.ndarray:
    picture = Image.open(io.BytesIO(made.data))
    assert picture.size == (made.width, made.height)
    return np.asarray(picture)


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from([math.nan, 0.05, 1.0, 73.0, 999.0]),
    st.booleans(),
)
def test_any_size_fits_and_nothing_is_enlarged(height, width, um_per_px, colour):
    pixels = np.full((height, width, 3) if colour else (height, width), 200, np.uint8)
    made = thumbnail(pixels, [200] * (3 if colour else 1), um_per_px)
    room = 0 if math.isnan(um_per_px) else BAR_ROOM_PX
    assert max(made.width, made.height) <= LARGEST_PX
    assert made.height <= height + room
    assert made.width <= max(width, NARROWEST_PX if room else 0)
    opened(made)


def test_small_pixels_are_exact_and_lie_in_the_middle():
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert np.array_equal(opened(thumbnail(pixels, [7], math.nan)), pixels)
    with_bar = opened(thumbnail(pixels, [7], 10.0))
    left = (NARROWEST_PX - 20) // 2
    assert np.array_equal(with_bar[:10, left : left + 20], pixels)
    assert (with_bar[:10, :left] == 7).all()


@pytest.mark.parametrize(("background", "ink"), [(240, 0), (10, 255)])
def test_the_bar_has_its_length_and_is_seen(background, ink):
    pixels = np.full((20, 30), background, np.uint8)
    made = opened(thumbnail(pixels, [background], 10.0))
    # 48 px of 10 µm are 480 µm; the longest round length up to 60 % is 200 µm: 20 px.
    bar = made[22:24]
    assert (bar == ink).sum(axis=1).tolist() == [20, 20]
    assert (made[24:] == ink).any()


def test_the_bar_follows_the_reduction():
    made = thumbnail(np.full((960, 960), 255, np.uint8), [255], 10.0)
    assert made.height == LARGEST_PX
    row = opened(made)[LARGEST_PX - BAR_ROOM_PX + 2, :, 0]
    # 79 of 960 px: 121.5 µm a px; of the 9600 µm in 79 px 5 mm are the longest up to 60 %: 41 px.
    assert abs(int((row < 100).sum()) - 41) <= 1


def test_sixteen_bits_and_colour():
    pixels = np.full((8, 8), 40 << 8, np.uint16)
    assert (opened(thumbnail(pixels, [50 << 8], 5.0, bits=16))[:8, 20:28] == 40).all()
    red = np.zeros((8, 8, 3), np.uint8) + np.uint8([200, 10, 20])
    made = opened(thumbnail(red, [1, 2, 3], 5.0))
    assert made[0, 22].tolist() == [200, 10, 20]
    assert made[0, 0].tolist() == [1, 2, 3]


def test_formats():
    assert thumbnail(np.zeros((32, 32), np.uint8), [0], math.nan).data[:4] == b"\x89PNG"
    assert thumbnail(np.zeros((33, 32), np.uint8), [0], math.nan).data[:4] == b"RIFF"
