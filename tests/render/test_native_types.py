"""The C++ renderer with every type of pixels, patch side, type of rows and instruction set."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_packs import drawn_pack, made_image, made_images, one_view

from aqqua import _core
from aqqua.plan.pack import Pack
from aqqua.render.native import render_native
from aqqua.render.reference import render_reference

TOLERANCE = 1e-5  # normalised units: a grey level of 8 bits is 0.016
PATCH_SIDES = [1, 4, 7, 8, 14, 16]
TURNED = ((0.8, -0.37, 9.0), (0.37, 0.8, -3.0))


def bits(patches_NF: torch.Tensor) -> torch.Tensor:
    assert patches_NF.dtype == torch.bfloat16
    return patches_NF.view(torch.int16)


def agree(pack: Pack, image: np.ndarray, patch_px: int, channels: int) -> None:
    """With the specification in float32; and bfloat16 is float32 as PyTorch rounds it."""
    got = render_native(pack, [image], patch_px, channels)
    expected = render_reference(pack, [image], patch_px, channels)
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)
    half = render_native(pack, [image], patch_px, channels, dtype=torch.bfloat16)
    assert torch.equal(bits(half), bits(got.to(torch.bfloat16)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("patch_px", PATCH_SIDES)
def test_every_kind_agrees_at_every_width(patch_px, dtype, colour, channels):
    image = made_image(np.random.default_rng(patch_px), 37, 41, dtype, colour)
    for columns in (1, 2, 5, 17, 40):
        sigma = (0.0, 0.9, 2.3)[columns % 3]
        view = one_view(
            image, (1 + columns % 2, columns), TURNED, background=90, sigma=sigma, bias=(-1, 0, 1), noise=0.1
        )
        agree(view, image, patch_px, channels)


@settings(max_examples=40, deadline=None)
@given(
    patch_px=st.sampled_from(PATCH_SIDES) | st.integers(1, 40),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 40)),
    channels=st.sampled_from([1, 3]),
)
def test_any_grid_agrees(patch_px, grid, channels):
    image = made_image(np.random.default_rng(1), 50, 60, np.uint8, colour=False)
    agree(one_view(image, grid, TURNED, sigma=0.5, scale=4.0, noise=0.1), image, patch_px, channels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_specification_makes_the_same_types(dtype):
    image = made_image(np.random.default_rng(2), 21, 33, np.uint8, colour=True)
    pack = drawn_pack([image], 8)
    expected = render_reference(pack, [image], 8, 3).to(dtype)
    assert torch.equal(render_reference(pack, [image], 8, 3, dtype=dtype), expected)
    assert render_native(pack, [image], 8, 3, dtype=dtype).dtype == dtype


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(
        st.integers(0, 2**32 - 1)
        | st.builds(
            lambda high, low: high << 16 | low, st.integers(0, 2**16 - 1), st.integers(0x7FFE, 0x8001)
        ),
        min_size=3,
        max_size=3,
    )
)
def test_bfloat16_rounds_as_pytorch_does(words):
    biases = torch.tensor(words).to(torch.uint32).view(torch.float32).nan_to_num()  # which show unchanged
    view = one_view(np.zeros((3, 3), np.uint8), (1, 3), bias=tuple(biases.tolist()))
    rows = render_native(view, [np.zeros((3, 3), np.uint8)], 4, 3, dtype=torch.bfloat16)
    assert torch.equal(bits(rows), bits((biases + 0.0).to(torch.bfloat16)).repeat(3, 16))


def test_what_overflows_is_the_same_in_both_types():
    image = made_image(np.random.default_rng(3), 30, 30, np.uint8, colour=False)
    view = one_view(image, (2, 9), sigma=0.4, scale=3e38, bias=(3e38,) * 3, noise=3e38)
    single = render_native(view, [image], 7, 1)
    half = render_native(view, [image], 7, 1, dtype=torch.bfloat16)
    assert single.isnan().any()
    assert single.isinf().any()
    torch.testing.assert_close(half, single.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_instruction_sets_and_threads_do_not_change_a_bit(channels, dtype):
    images = [image for k in range(4) for image in made_images(k, (np.uint8, np.uint16)[k % 2], colour=k > 1)]
    for patch_px in (7, 16):
        looks = {"specks": 3, "grey_odds": 0.3, "solarize_odds": (0.5, 0.5)} if patch_px == 7 else {}
        pack = drawn_pack(images, patch_px, noise=(0.0, 0.1), **looks)
        results = [
            render_native(pack, images, patch_px, channels, dtype=dtype, simd=simd, threads=threads)
            for simd in ["auto", *_core.render_simd()]
            for threads in (1, 3)
        ]
        assert all(torch.equal(results[0], result) for result in results)


def test_the_instruction_sets_are_named_and_no_other_serves():
    assert _core.render_simd()[-1] == "plain"  # the one every machine has
    assert set(_core.render_simd()) <= {"avx512", "avx2", "plain"}
    image = np.zeros((9, 9), np.uint8)
    with pytest.raises(ValueError, match=r"^render: simd must be one of auto,.* plain .* got mmx; pass"):
        render_native(one_view(image, (1, 1)), [image], 8, 1, simd="mmx")


@pytest.mark.parametrize(("sigma", "channels"), [(12.3, 3), (40.0, 1)])
def test_a_wide_blur_agrees(sigma, channels):
    for height, width in [(1, 1), (40, 3), (9, 70)]:
        image = made_image(np.random.default_rng(4), height, width, np.uint8, colour=True)
        view = one_view(image, (2, 5), ((4.0, 1.0, -50.0), (-1.0, 4.0, -30.0)), sigma=sigma)
        agree(view, image, 8, channels)


def test_the_widest_blur_leaves_little_of_an_image():
    image = np.full((20, 30), 255, np.uint8)
    values = render_native(one_view(image, (2, 3), sigma=1000.0), [image], 8, 1)
    peak = 20 * 30 / (2 * np.pi * 1000.0**2)  # of the Gaussian, times the area
    torch.testing.assert_close(values, torch.full_like(values, peak), rtol=0.01, atol=0)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 6.0])
@pytest.mark.parametrize("offset", [(500, 3), (-500, 3), (3, 500), (3, -500), (-500, -500)])
def test_beyond_the_image_is_its_background(offset, sigma):
    image = made_image(np.random.default_rng(5), 30, 20, np.uint16, colour=True)
    map_23 = ((0.9, -0.4, offset[0]), (0.4, 0.9, offset[1]))
    view = one_view(image, (3, 4), map_23, background=65535, sigma=sigma, scale=2.0, bias=(1, 2, 3))
    values = render_native(view, [image], 8, 3).reshape(-1, 3)
    assert torch.equal(values, torch.tensor([3.0, 4.0, 5.0]).expand_as(values))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (33, 17)])
def test_16_bits_may_lie_at_odd_addresses(height, width, colour, channels):
    image = made_image(np.random.default_rng(6), height, width, np.uint16, colour)
    unaligned = np.frombuffer(b"\0" + image.tobytes(), np.uint16, image.size, offset=1).reshape(image.shape)
    assert unaligned.ctypes.data % 2 != image.ctypes.data % 2
    pack = drawn_pack([image], 8)
    assert torch.equal(
        render_native(pack, [unaligned], 8, channels), render_native(pack, [image], 8, channels)
    )
