"""The specification itself, against what anyone can check by hand."""

import math

import numpy as np
import pytest
import torch
from made_packs import made_image, one_view, unpatched
from PIL import Image, ImageOps

from aqqua.plan import colour
from aqqua.plan.pack import Pack
from aqqua.render.reference import noise, patchify, prefilter, render_reference

P = 8
RNG = np.random.default_rng(1)
GREY = made_image(RNG, 16, 24, np.uint8, colour=False)
COLOUR = made_image(RNG, 16, 24, np.uint8, colour=True)
GRID = (2, 3)  # of both images, at scale 1
LUMA = np.array(colour.LUMA)


def shown(pack: Pack, image: np.ndarray, channels: int = 1) -> np.ndarray:
    """What a view shows, [h, w, C]."""
    rows = render_reference(pack, [image], P, channels)
    return unpatched(rows.numpy(), tuple(pack.grid_V2[0].tolist()), P, channels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_identity_shows_the_pixels_exactly(dtype):
    image = made_image(RNG, 16, 24, dtype, colour=False)
    expected = image.astype(np.float32) / np.float32(np.iinfo(dtype).max)
    assert np.array_equal(shown(one_view(image, GRID), image)[..., 0], expected)


def test_scale_and_bias_come_after_sampling():
    pack = one_view(COLOUR, GRID, scale=-2.0, bias=(0.5, 0.25, 3.0))
    expected = COLOUR / 255 * -2.0 + [0.5, 0.25, 3.0]
    np.testing.assert_allclose(shown(pack, COLOUR, 3), expected, atol=1e-6)


def test_the_background_goes_on_beyond_the_image():
    shifted = ((1, 0, -8), (0, 1, -8))
    seen = shown(one_view(GREY, (4, 5), shifted, background=200, sigma=0), GREY)[..., 0]
    expected = np.full((32, 40), 200 / 255)
    expected[8:24, 8:32] = GREY / 255
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    far = shown(one_view(GREY, GRID, ((1, 0, 1e6), (0, 1, 0)), background=200, sigma=2.0), GREY)
    np.testing.assert_allclose(far, 200 / 255, atol=1e-6)


def test_half_a_pixel_is_the_mean_of_two():
    seen = shown(one_view(GREY, GRID, ((1, 0, 0.5), (0, 1, 0))), GREY)[..., 0]
    np.testing.assert_allclose(seen[:, :-1], (GREY[:, :-1] / 255 + GREY[:, 1:] / 255) / 2, atol=1e-6)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip", [False, True])
def test_quarter_turns_and_flips_are_numpys(turns, flip):
    to_source, expected = np.eye(3), GREY
    for _ in range(turns):  # np.rot90 shows source (w - y, x) at (x, y)
        to_source = to_source @ [[0, -1, expected.shape[1]], [1, 0, 0], [0, 0, 1]]
        expected = np.rot90(expected)
    if flip:
        to_source = to_source @ [[-1, 0, expected.shape[1]], [0, 1, 0], [0, 0, 1]]
        expected = np.fliplr(expected)
    grid = (expected.shape[0] // P, expected.shape[1] // P)
    seen = shown(one_view(GREY, grid, to_source[:2]), GREY)[..., 0]
    np.testing.assert_allclose(seen, expected / 255, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 1.3, 4.0])
def test_the_blur_is_a_gaussian_on_the_background(sigma):
    background, reach = 90, math.ceil(3 * sigma)
    seen = shown(one_view(GREY, GRID, background=background, sigma=sigma), GREY)[..., 0]
    plane = np.pad(GREY / 255, reach, constant_values=background / 255)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    windows = np.lib.stride_tricks.sliding_window_view(plane, kernel.shape)
    np.testing.assert_allclose(seen, (windows * kernel).sum(axis=(2, 3)), atol=2e-6)


def test_a_tiny_sigma_does_not_blur():
    image = torch.rand(1, 5, 5)
    same, pad = prefilter(image, torch.zeros(1), 0.19)
    assert same is image
    assert pad == 0


def test_colour_becomes_luma_and_grey_is_repeated():
    luma = COLOUR / 255 @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(shown(one_view(COLOUR, GRID), COLOUR)[..., 0], luma, atol=1e-6)
    thrice = shown(one_view(GREY, GRID), GREY, 3)
    assert np.array_equal(thrice, np.repeat(GREY[..., None] / np.float32(255), 3, axis=2))


def test_a_speck_is_a_disc_with_a_soft_rim():
    """Pixel by pixel, by hand: a share of the way from the level there to the speck's."""
    pack = one_view(GREY, GRID, specks=((10.5, 7.25, 3.0, 0.25), (1.5, 1.5, 0.0, 1.0)))
    expected = GREY / 255
    for i in range(16):
        for j in range(24):
            distance = math.hypot(j + 0.5 - 10.5, i + 0.5 - 7.25)
            share = min(max(3.5 - distance, 0), 1)
            expected[i, j] += share * (0.25 - expected[i, j])
    np.testing.assert_allclose(shown(pack, GREY)[..., 0], expected, atol=1e-6)
    assert expected[7, 10] == 0.25


def test_specks_lie_one_over_the_other_in_their_order():
    both = ((8.5, 8.5, 4.0, 0.0), (8.5, 8.5, 2.0, 1.0))
    for specks, middle in ((both, 1), (both[::-1], 0)):
        seen = shown(one_view(GREY, GRID, specks=specks), GREY)[..., 0]
        assert seen[8, 8] == middle
        assert seen[8, 11] == 0


def test_a_colour_is_mixed_by_rows_of_the_matrix():
    matrix = np.array([[0.5, 0.2, 0.3], [0, 1, 0], [1, -1, 1]])
    seen = shown(one_view(COLOUR, GRID, colour=matrix), COLOUR, 3)
    np.testing.assert_allclose(seen, COLOUR / 255 @ matrix.T, atol=1e-6)
    luma = COLOUR / 255 @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(shown(one_view(COLOUR, GRID, colour=matrix), COLOUR)[..., 0], luma, atol=1e-6)


def test_a_fold_at_one_half_is_pillows_solarize():
    pack = one_view(COLOUR, GRID, fold=(1.0, 1.0, 1.0))
    solarized = np.asarray(ImageOps.solarize(Image.fromarray(COLOUR), 128))
    np.testing.assert_allclose(shown(pack, COLOUR, 3), solarized / 255, atol=1e-6)


def test_what_is_done_to_a_value_comes_in_order():
    """Specks, colour, light, fold: any two in another order would give another value."""
    matrix = np.array([[0.5, 0.4, 0.3], [0.1, 1.1, 0.2], [0.3, -0.2, 1]])
    bias, fold = np.array([-0.2, 0.1, 0.3]), np.array([0.9, 0.5, 0.7])
    pack = one_view(
        COLOUR,
        GRID,
        specks=((12, 8, 40, 0.3),),
        colour=matrix,
        scale=-1.7,
        bias=tuple(bias),
        fold=tuple(fold),
    )
    lit = np.full(3, 0.3) @ matrix.T * -1.7 + bias  # the speck covers all
    expected = np.broadcast_to(np.minimum(lit, fold - lit), (16, 24, 3))
    np.testing.assert_allclose(shown(pack, COLOUR, 3), expected, atol=1e-6)
    grey = LUMA @ bias - 1.7 * 0.3
    np.testing.assert_allclose(shown(pack, COLOUR)[..., 0], min(grey, LUMA @ fold - grey), atol=1e-6)


def test_a_value_far_out_is_not_folded_where_nothing_is():
    pack = one_view(GREY, GRID, scale=3e38)
    expected = GREY / np.float32(255) * np.float32(3e38)
    assert np.array_equal(shown(pack, GREY)[..., 0], expected)


def test_patches_are_row_major_and_channels_last():
    values = torch.arange(3 * 4 * 6).reshape(3, 4, 6).float()
    rows = patchify(values, 2)
    assert rows.shape == (6, 12)
    assert rows[4].tolist() == [values[c, 2 + y, 2 + x] for y in range(2) for x in range(2) for c in range(3)]


def test_noise_is_normal_and_named_by_its_key():
    draw = noise(0x123456789ABCDEF0, 300, 400)
    assert abs(float(draw.mean())) < 0.01
    assert abs(float(draw.std()) - 1) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([draw[:, 1:].ravel(), draw[:, :-1].ravel()]))[0, 1])) < 0.01
    assert torch.equal(draw, noise(0x123456789ABCDEF0, 300, 400))
    for other in (0x123456789ABCDEF1, 0x023456789ABCDEF0):
        correlation = torch.corrcoef(torch.stack([draw.ravel(), noise(other, 300, 400).ravel()]))[0, 1]
        assert abs(float(correlation)) < 0.01


def test_noise_is_added_last_and_follows_the_visit():
    def visit(number: int) -> np.ndarray:
        return shown(one_view(GREY, GRID, scale=3.0, noise=0.5, visit=number), GREY)[..., 0]

    added = (visit(1) - GREY / np.float32(255) * 3) / 0.5
    assert abs(added.mean()) < 0.2
    assert abs(added.std() - 1) < 0.2
    assert np.array_equal(visit(1), visit(1))
    assert not np.array_equal(visit(1), visit(2))
