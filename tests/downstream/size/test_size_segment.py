"""segment: the organism against its own ground, on drawn pictures whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.downstream.size.segment import blobs, segment


def disc(ground, inside, shape=(60, 80), radius=15, noise=0.0, seed=0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < radius**2
    image = np.where(truth, inside, ground) + np.random.default_rng(seed).normal(0, noise, shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize(
    ("ground", "inside", "polarity"), [(255, 90, "dark"), (0, 120, "bright"), (180, 60, "dark")]
)
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_finds_a_disc_on_any_ground(ground, inside, polarity, noise):
    image, truth = disc(ground, inside, noise=noise)
    found = segment(image)
    assert found.polarity == polarity
    np.testing.assert_array_equal(found.mask_HW, truth)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_bits_channels_and_turning_change_nothing(seed, radius, colour):
    image, _ = disc(200, 40, (30, 41), radius, 1.0, seed)
    mask = segment(image).mask_HW
    np.testing.assert_array_equal(segment(image.astype(np.uint16) * 257).mask_HW, mask)
    np.testing.assert_array_equal(segment(np.rot90(image)).mask_HW, np.rot90(mask))
    np.testing.assert_array_equal(segment(255 - image).mask_HW, mask)
    if colour:
        np.testing.assert_array_equal(segment(np.stack([image] * 3, axis=2)).mask_HW, mask)


def test_a_ring_is_filled_and_a_gap_in_it_closed():
    _, outer = disc(0, 1, radius=20)
    _, inner = disc(0, 1, radius=16)
    image = np.where(outer & ~inner, 200, 10).astype(np.uint8)
    image[30, :40] = 10  # one row cut out of the left side
    assert segment(image).mask_HW.sum() == outer.sum()


def test_colour_that_grey_would_not_show():
    image, truth = disc(100, 0)
    colour = np.full((*image.shape, 3), 100, np.uint8)
    colour[truth] = (160, 100, 40)  # its mean is the ground's
    np.testing.assert_array_equal(segment(colour).mask_HW, truth)


def test_faint_pixels_belong_only_if_they_hang_on():
    image = np.full((40, 60), 255, np.uint8)
    image[10:20, 10:20] = 60
    image[14:16, 20:35] = 225  # an antenna
    image[30:33, 45:50] = 225  # as faint, alone
    found = segment(image, "all").mask_HW
    assert found[15, 34]
    assert not found[31, 47]


def test_largest_or_all():
    image = np.full((40, 60), 255, np.uint8)
    image[5:20, 5:20] = 60
    image[25:35, 40:50] = 60
    image[38, 58] = 60  # a speck: 1 of 225
    assert segment(image).mask_HW.sum() == 225
    assert segment(image, "all").mask_HW.sum() == 325
    things = blobs(segment(image, "all").mask_HW)
    assert [int(thing.mask_HW.sum()) for thing in things] == [225, 100]
    assert not any(thing.touches_border for thing in things)


def test_what_leaves_the_picture_touches_the_border():
    image = np.full((30, 40), 255, np.uint8)
    image[0:12, 10:20] = 60
    assert blobs(segment(image).mask_HW)[0].touches_border


def test_an_empty_picture_has_nothing():
    assert not segment(np.full((20, 30), 180, np.uint8)).mask_HW.any()
    assert not segment(disc(180, 180, noise=1.0)[0]).mask_HW.any()


def test_a_given_threshold_is_the_one_used():
    image = np.zeros((20, 20), np.uint8)
    image[5:10, 5:10] = 30
    image[5:10, 10:12] = 21
    assert segment(image, threshold=22).mask_HW.sum() == 25
    assert segment(image, threshold=21).mask_HW.sum() == 35


@pytest.mark.parametrize(
    ("pixels", "threshold", "match"),
    [
        (np.zeros((4, 4), np.float32), None, "uint8 or uint16, got .* of float32"),
        (np.zeros((4, 4, 4), np.uint8), None, "must have 3 channels, got 4"),
        (np.zeros((0, 4), np.uint8), None, "must be"),
        (np.zeros((4, 4), np.uint8), 0.0, "threshold must be above 0"),
    ],
)
def test_refuses_what_is_no_image(pixels, threshold, match):
    with pytest.raises(ValueError, match=match):
        segment(pixels, threshold=threshold)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_tiny_pictures_do_no_harm(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    assert segment(image).mask_HW.shape == image.shape
