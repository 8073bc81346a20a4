"""The GPU renderer: equal to the specification, safe whatever the map; in Triton's interpreter without a GPU.

The kernel by itself: tests/kernels/test_render.py.
"""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_packs import drawn_pack, made_image, one_view, real_images

from aqqua.kernels import choice
from aqqua.plan.pack import Pack
from aqqua.render import choose
from aqqua.render.native import render_native
from aqqua.render.reference import noise, render_reference
from aqqua.render.triton import render_triton, scene_of

TOLERANCE = 1e-5  # normalised units: a grey level of 8 bits is 0.016
P = 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
render = partial(render_triton, device=DEVICE)


def small_pack(images: list[np.ndarray], patch_px: int = P, **options: object) -> Pack:
    """A global and a local view of each image, few patches: the interpreter takes its time."""
    few = {"locals": 1, "max_tokens": (4, 2), "min_tokens": (2, 2), "noise": (0.01, 0.1)}
    return drawn_pack(images, patch_px, **{**few, "blur_sigma_px": (0.1, 0.8), **options})


def agree(pack: Pack, images: list[np.ndarray], patch_px: int, channels: int, **options: object) -> None:
    expected = render_reference(pack, images, patch_px, channels, **options)
    got = render(pack, images, patch_px, channels, **options).cpu()
    assert got.dtype == expected.dtype
    rtol = 2**-7 if got.dtype == torch.bfloat16 else 0  # where 1e-6 decides a rounding
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=rtol)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "colour"), [(np.uint8, False), (np.uint8, True), (np.uint16, True)])
def test_made_images_agree(dtype, colour, channels):
    rng = np.random.default_rng(1)
    images = [made_image(rng, *sides, dtype, colour) for sides in ((17, 30), (1, 5))]
    agree(small_pack(images), images, P, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "colour"), [(np.uint8, True), (np.uint16, False)])
def test_all_that_a_view_may_be_agrees(dtype, colour, channels):
    rng = np.random.default_rng(7)
    images = [made_image(rng, *sides, dtype, colour) for sides in ((17, 30), (9, 5))]
    looks = {"specks": 3, "speck_odds": 1, "speck_radius": (0.1, 0.4), "grey_odds": 0.2, "hue": (-0.5, 0.5)}
    agree(small_pack(images, solarize_odds=(0.5, 0.5), **looks), images, P, channels)


def test_real_images_agree(real_data):
    images = real_images(real_data / "isiis-ndsb.zip", 2, largest_side=60)
    agree(small_pack(images, 14), images, 14, 1, dtype=torch.bfloat16)


def test_a_pack_may_mix_kinds_and_a_grey_image_may_have_a_coloured_background():
    rng = np.random.default_rng(2)
    images = [made_image(rng, 9, 14, np.uint16, True), made_image(rng, 12, 7, np.uint8, False)]
    pack = small_pack(images)
    background = np.array([[900, 60000, 5], [10, 200, 90]], np.uint16)
    pack = dataclasses.replace(pack, sizes=dataclasses.replace(pack.sizes, background=background))
    agree(pack, images, P, 1)
    agree(pack, images, P, 3)


def test_a_sharp_edge_far_out_lies_where_the_specification_has_it():
    """Coordinates about 3,000 px from 0, turned: one rounding apart would show."""
    image = np.zeros((4, 3000), np.uint8)
    image[:, ::2] = 255
    pack = one_view(
        image, (1, 2), ((0.7071068, -0.7071068, 2970.123), (0.7071068, 0.7071068, -9.7)), scale=4.0
    )
    got, expected = render(pack, [image], P, 1).cpu(), render_reference(pack, [image], P, 1)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@pytest.mark.parametrize("sigma", [0.0, 0.3])
@settings(max_examples=15, deadline=None)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6),
)
def test_no_finite_map_leads_outside(sigma, numbers):
    image = np.full((20, 30), 255, np.uint8)
    pack = one_view(image, (1, 2), np.array(numbers), background=51, sigma=sigma)
    values = render(pack, [image], P, 1)
    assert bool(((values >= 0.2 - 1e-5) & (values <= 1 + 1e-5)).all())


def test_noise_has_the_bits_of_the_specification():
    image = np.zeros((20, 30), np.uint8)
    pack = one_view(image, (2, 3), noise=1.0, visit=2**63 + 12345)
    got = render(pack, [image], P, 1).cpu().reshape(2, 3, P, P).permute(0, 2, 1, 3).reshape(2 * P, 3 * P)
    expected = noise(int(pack.key_V[0] ^ pack.visit_I[0]), 2 * P, 3 * P)
    torch.testing.assert_close(got, expected, atol=0, rtol=2**-22)  # a GPU divides to 2 units


def test_the_first_views_are_a_prefix_and_any_memory_serves():
    rng = np.random.default_rng(4)
    image = made_image(rng, 9, 11, np.uint16, True)
    pack = small_pack([image])
    whole, rows = render(pack, [image], P, 1), int(pack.patches_V[:2].sum())
    assert torch.equal(render(pack, [image], P, 1, first_views=2), whole[:rows])
    assert render(pack, [image], P, 3, first_views=0).shape == (0, 3 * P * P)
    unaligned = np.frombuffer(b"\0" + image.tobytes(), np.uint16, image.size, offset=1).reshape(image.shape)
    assert torch.equal(render(pack, [unaligned], P, 1), whole)
    assert torch.equal(render(pack, [np.asfortranarray(image)], P, 1), whole)


def test_one_buffer_holds_all_that_travels():
    images = [made_image(np.random.default_rng(5), 9, 11, np.uint8, False) for _ in range(3)]
    scene = scene_of(small_pack(images), images, P, 1, None, torch.device("cpu"))
    tensors = [value for value in vars(scene).values() if isinstance(value, torch.Tensor)]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    assert scene.offset_I.tolist() == sorted(scene.offset_I.tolist())


def test_triton_serves_on_a_gpu_and_says_where_it_cannot(monkeypatch):
    monkeypatch.setattr(choice, "_INSTALLED", True)
    monkeypatch.setattr(choice, "TRITON_FIRST", frozenset({"render"}))
    for wanted in ("auto", "triton"):
        name, renderer = choose(wanted, "cuda:1")
        assert (name, renderer.func, renderer.keywords) == (
            "triton",
            render_triton,
            {"device": torch.device("cuda:1")},
        )
    assert choose("auto", "cpu") == choose("native", "cuda") == ("native", render_native)
    monkeypatch.setattr(choice, "interpreted", lambda: False)
    with pytest.raises(RuntimeError, match="render backend 'triton' needs a CUDA device, got cpu"):
        choose("triton", "cpu")
    monkeypatch.setattr(choice, "_INSTALLED", False)
    assert choose("auto", "cuda") == ("native", render_native)
    with pytest.raises(RuntimeError, match="needs the package triton, got none; install it"):
        choose("triton", "cuda")
