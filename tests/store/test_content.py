"""describe: background, organism box and content hash of images made to be known, and of any image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aqqua.store.content import content_hash, describe, image_key

SHAPES = st.one_of(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)),
)
IMAGES = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [False, True])
def test_box_holds_a_dark_organism_on_a_noisy_bright_background(dtype, colour):
    scale = np.iinfo(dtype).max // 255
    noise = np.random.default_rng(0).normal(200, 2, (60, 80, 3) if colour else (60, 80))
    noise[20:40, 30:70] = 40
    image = (noise * scale).astype(dtype)

    look = describe(image)

    assert look.box == (20, 30, 40, 70)
    assert np.allclose(np.array(look.background) / scale, 200, atol=1)


def test_box_ignores_a_lone_bright_speck():
    image = np.zeros((100, 100), np.uint8)
    image[40:60, 40:60] = 100
    image[5, 95] = 255
    assert describe(image).box == (40, 40, 60, 60)


@pytest.mark.parametrize("sigma", [0, 3])
def test_box_is_the_whole_image_when_nothing_stands_out(sigma):
    image = np.random.default_rng(1).normal(128, sigma, (40, 30)).astype(np.uint8)
    assert describe(image).box == (0, 0, 40, 30)


def test_background_is_per_channel_and_grey_is_repeated():
    colour = np.zeros((9, 9, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    assert describe(colour).background == (10, 20, 30)
    assert describe(colour[..., 0]).background == (10, 10, 10)


@given(IMAGES)
@settings(max_examples=150, deadline=None)
def test_any_image_has_a_box_inside_and_a_background_that_occurs_on_its_border(image):
    before = image.copy()
    look = describe(image)
    top, left, bottom, right = look.box
    assert 0 <= top < bottom <= image.shape[0]
    assert 0 <= left < right <= image.shape[1]
    assert look.content == content_hash(image)
    border = np.ones(image.shape[:2], bool)
    border[1:-1, 1:-1] = False
    channels = image[border].reshape(-1, 3 if image.ndim == 3 else 1)
    for channel in range(3):
        assert look.background[channel] in channels[:, channel % channels.shape[1]]
    np.testing.assert_array_equal(image, before)


@given(IMAGES)
@settings(max_examples=50, deadline=None)
def test_content_hash_tells_shape_and_depth_apart(image):
    assert content_hash(image.copy()) == content_hash(image)
    changed = image.copy()
    changed.flat[0] ^= 1
    assert content_hash(changed) != content_hash(image)
    wider = image.astype(np.uint16) if image.dtype == np.uint8 else image.view(np.uint8)
    assert content_hash(wider) != content_hash(image)
    if image.shape[0] != image.shape[1]:
        assert content_hash(image.reshape(image.shape[1], image.shape[0], *image.shape[2:])) != content_hash(
            image
        )


def test_a_view_hashes_as_its_copy():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert content_hash(image[::2, 1:7]) == content_hash(image[::2, 1:7].copy())


def test_key_is_fixed_forever():
    assert image_key("cruise/image1") == 16848692799496211838  # a change would reorder every dataset and plan
