"""The DALI renderer against the specification, image by image; its tolerance is that of the sampling."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_packs import drawn_pack, made_images, one_view, real_images

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

from aqqua.plan.pack import Pack
from aqqua.render import Renderer
from aqqua.render.reference import noise, render_reference
from dali_pipelines import render as module
from dali_pipelines.render import DaliRenderer

# Normalised units, where a grey level of 8 bits is 0.016: DALI steps from pixel to pixel, so that 256 columns
# on a point is off by some 1e-4 px, which shows by as much as neighbours differ.
TOLERANCE, MEAN = 2e-3, 2e-5
P = 8
RENDER = DaliRenderer(2)


def agree(pack: Pack, images: list[np.ndarray], patch_px: int, channels: int, mean: float = MEAN) -> None:
    expected = render_reference(pack, images, patch_px, channels)
    got = RENDER(pack, images, patch_px, channels)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)
    assert float((got - expected).abs().mean()) < mean


def test_it_is_a_renderer():
    assert isinstance(RENDER, Renderer)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("archive", "count"), [("isiis-ndsb.zip", 20), ("pwssc.zip", 4)])
def test_real_images_agree(real_data, archive, count, channels):
    images = real_images(real_data / archive, count)
    agree(drawn_pack(images, 16), images, 16, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_made_images_agree(dtype, colour, channels):
    images = made_images(2, dtype, colour)
    agree(drawn_pack(images, P, invert_odds=(0.5, 0.5), noise=(0.01, 0.1)), images, P, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
def test_specks_colour_and_solarising_agree(colour, channels):
    images = made_images(7, np.uint8, colour)
    settings = {
        "specks": 3, "speck_odds": 0.8, "speck_radius": (0.05, 0.2), "saturation": (0.5, 1.5),
        "hue": (-0.1, 0.1), "grey_odds": 0.2, "solarize_odds": (0.5, 0.5),
    }  # fmt: skip
    pack = drawn_pack(images, P, **settings)
    assert (pack.speck_VK4[..., 2] > 0).any()
    assert (pack.fold_VC < 1e9).any()
    assert (pack.colour_V33 != np.eye(3)).any() == colour
    agree(pack, images, P, channels)


def test_dinov2s_squares_agree():
    """A step's error adds up from column to column: of 224 it reaches further than of 64."""
    images = made_images(8, np.uint8, True)
    agree(drawn_pack(images, 14, augmentation="dinov2"), images, 14, 3, mean=3 * MEAN)


def test_a_pack_may_mix_kinds_and_keep_the_background():
    images = [made_images(3, np.uint16, True)[0], *made_images(4, np.uint8, False)[:2]]
    for subtract in (True, False):
        pack = drawn_pack(images, P, subtract_background=subtract)
        agree(pack, images, P, 1)
        agree(pack, images, P, 3)


def test_a_grey_image_may_have_a_coloured_background():
    image = made_images(5, np.uint8, False)[0]
    pack = one_view(image, (3, 3), ((0.9, 0.3, -4), (-0.3, 0.9, 2)), sigma=1.1)
    background = np.array([[10, 200, 90]], np.uint16)
    agree(
        dataclasses.replace(pack, sizes=dataclasses.replace(pack.sizes, background=background)), [image], P, 3
    )


@pytest.mark.parametrize("sigma", [0.0, 0.19, 0.2, 1.0, 9.0])
def test_a_view_by_the_numbers(sigma):
    image = made_images(6, np.uint8, True)[1]
    agree(one_view(image, (3, 2), background=7, sigma=sigma, scale=-3, bias=(1, 2, 3)), [image], P, 3)


def test_noise_has_the_bits_of_the_specification():
    image = np.zeros((20, 30), np.uint8)
    pack = one_view(image, (1, 40), noise=1.0, visit=2**63 + 12345)
    key = int(pack.key_V[0] ^ pack.visit_I[0])
    got = RENDER(pack, [image], P, 1).reshape(40, P, P).permute(1, 0, 2).reshape(P, 40 * P)
    assert torch.equal(got, noise(key, P, 40 * P))


def test_neither_threads_nor_batches_change_a_bit(monkeypatch):
    images = made_images(7, np.uint8, True) + made_images(8, np.uint16, False)
    pack = drawn_pack(images, P)
    want = DaliRenderer(1)(pack, images, P, 3)
    assert torch.equal(DaliRenderer(3)(pack, images, P, 3), want)
    monkeypatch.setattr(module, "BATCH", 7)
    assert torch.equal(DaliRenderer(2)(pack, images, P, 3), want)


def test_first_views_and_bfloat16_and_nothing():
    images = made_images(9, np.uint8, False)
    pack = drawn_pack(images, P)
    whole = RENDER(pack, images, P, 1)
    few = RENDER(pack, images, P, 1, first_views=3, dtype=torch.bfloat16)
    assert torch.equal(few, whole[: int(pack.patches_V[:3].sum())].to(torch.bfloat16))
    assert RENDER(pack, images, P, 1, first_views=0).shape == (0, P * P)


def test_what_is_not_as_planned_is_refused():
    images = made_images(9, np.uint8, False)
    pack = drawn_pack(images, P)
    with pytest.raises(ValueError, match="must be uint8"):
        RENDER(pack, [image.T for image in images], P, 1)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        RENDER(pack, images, P, 2)


def test_it_can_be_closed_and_used_again():
    images = made_images(9, np.uint8, False)
    pack = drawn_pack(images, P)
    one = DaliRenderer(1)
    want = one(pack, images, P, 1)
    one.close()
    assert torch.equal(one(pack, images, P, 1), want)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_pages_go_together_while_they_are_few_and_small(values):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 7)
        patch.setattr(module, "BATCH_VALUES", 50)
        parts = [values[part] for part in module.batches(values)]
    assert [size for part in parts for size in part] == values
    assert all(1 <= len(part) <= 7 and (sum(part) <= 50 or len(part) == 1) for part in parts)
    for part, after in pairwise(parts):  # none could have taken one more
        assert len(part) == 7 or sum(part) + after[0] > 50


def test_pages_of_unequal_sizes_agree_though_taken_apart(monkeypatch):
    monkeypatch.setattr(module, "BATCH_VALUES", 3000)
    images = made_images(2, np.uint8, True)
    agree(drawn_pack(images, P), images, P, 3)
