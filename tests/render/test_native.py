"""The C++ renderer: equal to the specification, whatever the threads, and safe whatever the map.

Every type of pixels, patches and rows, and every instruction set: test_native_types.py.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_packs import drawn_pack, made_image, made_images, one_view, real_images

from aqqua.plan.pack import Pack
from aqqua.render import choose
from aqqua.render.native import render_native
from aqqua.render.reference import noise, render_reference

TOLERANCE = 1e-5  # normalised units: a grey level of 8 bits is 0.016
EVERYTHING = {
    "specks": 8, "speck_odds": 0.8, "grey_odds": 0.2, "solarize_odds": (0.5, 0.5), "hue": (-0.5, 0.5),
    "saturation": (0, 2), "max_tokens": (36, 16),
}  # fmt: skip
P = 8


def agree(pack: Pack, images: list[np.ndarray], patch_px: int, channels: int) -> None:
    expected = render_reference(pack, images, patch_px, channels)
    got = render_native(pack, images, patch_px, channels)
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, atol=TOLERANCE + rims(pack), rtol=0)


def rims(pack: Pack) -> float:
    """What specks may add: the share at a rim follows a distance, known to a rounding of the radius."""
    radius_V = np.where(pack.speck_VK4[..., 2] > 0, pack.speck_VK4[..., 2] + 1, 0).sum(axis=1)
    return float((np.abs(pack.scale_V) * radius_V).max(initial=0)) * 2**-23


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("archive", "count"), [("isiis-ndsb.zip", 40), ("pwssc.zip", 6)])
def test_real_images_agree(real_data, archive, count, channels):
    images = real_images(real_data / archive, count)
    assert len(images) > count // 2
    agree(drawn_pack(images, 16), images, 16, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_made_images_agree(dtype, colour, channels):
    images = made_images(2, dtype, colour)
    agree(drawn_pack(images, P, invert_odds=(0.5, 0.5), noise=(0.01, 0.1)), images, P, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["plankton", "dinov2"])
@pytest.mark.parametrize(("dtype", "colour"), [(np.uint8, False), (np.uint8, True), (np.uint16, True)])
def test_all_that_a_view_may_be_agrees(dtype, colour, augmentation, channels):
    images = made_images(11, dtype, colour)
    agree(drawn_pack(images, P, augmentation=augmentation, **EVERYTHING), images, P, channels)


def test_a_pack_may_mix_kinds_and_hide_the_background_or_not():
    images = [made_images(3, np.uint16, True)[0], made_images(4, np.uint8, False)[0]]
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


# Far from 0 a coordinate has few bits left; there a wide blur would only take the specification's time.
FAR = st.sampled_from([(20_000, 3), (3, 20_000), (20_000, 1), (1, 20_000)])
NEAR = st.sampled_from([(1, 1), (1, 7), (3000, 3), (3, 3000)])
SMALL = st.tuples(st.integers(1, 60), st.integers(1, 60))
SIGMA = st.sampled_from([0.0, 0.19, 0.2, 0.34, 1.0, 5.5, 17.0])
SPECK = st.tuples(st.floats(-9, 40), st.floats(-9, 40), st.just(0.0) | st.floats(0, 20), st.floats(0, 1))
NUMBER = st.floats(-1, 1)
LOOKS = st.fixed_dictionaries(
    {},
    optional={
        "specks": st.lists(SPECK, max_size=8),
        "colour": st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=3, max_size=3),
        "fold": st.tuples(*[st.floats(-4, 4) | st.just(1e30)] * 3),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    seen=st.tuples(FAR, st.sampled_from([0.0, 0.34])) | st.tuples(NEAR | SMALL, SIGMA),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    turn=st.floats(0, 7),
    zoom=st.floats(0.1, 4),
    flip=st.sampled_from([-1, 1]),
    centre=st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)),
    kind=st.tuples(st.sampled_from([np.uint8, np.uint16]), st.booleans(), st.sampled_from([1, 3])),
    looks=LOOKS,
)
def test_any_view_agrees(seen, grid, turn, zoom, flip, centre, kind, looks):
    sides, sigma = seen
    dtype, colour, channels = kind
    image = made_image(np.random.default_rng(sides[0] * 61 + sides[1]), *sides, dtype, colour)
    linear = np.array([[flip * np.cos(turn), -np.sin(turn)], [flip * np.sin(turn), np.cos(turn)]]) / zoom
    shift = np.array([centre[0] * sides[1], centre[1] * sides[0]]) - linear @ [
        grid[1] * P / 2,
        grid[0] * P / 2,
    ]
    map_23 = np.column_stack([linear, shift])
    light = {"scale": 5.6, "bias": (-1, 0, 1), "noise": 0.1}
    pack = one_view(image, grid, map_23, background=None, sigma=sigma, **light, **looks)
    agree(pack, [image], P, channels)


@settings(max_examples=150, deadline=None)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6),
    sigma=st.sampled_from([0.0, 1.0]),
)
def test_no_finite_map_leads_outside(numbers, sigma):
    image = np.full((20, 30), 255, np.uint8)
    pack = one_view(image, (2, 3), np.array(numbers), background=51, sigma=sigma)
    values = render_native(pack, [image], P, 1)
    assert bool(((values >= 0.2 - 1e-5) & (values <= 1 + 1e-5)).all())


def test_noise_has_the_bits_of_the_specification():
    image = np.zeros((20, 30), np.uint8)
    pack = one_view(image, (1, 40), noise=1.0, visit=2**63 + 12345)
    key = int(pack.key_V[0] ^ pack.visit_I[0])
    got = render_native(pack, [image], P, 1).reshape(40, P, P).permute(1, 0, 2).reshape(P, 40 * P)
    assert torch.equal(got, noise(key, P, 40 * P))


@pytest.mark.parametrize("channels", [1, 3])
def test_threads_do_not_change_a_bit(channels):
    images = made_images(6, np.uint8, True) + made_images(7, np.uint16, False)
    pack = drawn_pack(images, P)
    one = render_native(pack, images, P, channels, threads=1)
    assert torch.equal(one, render_native(pack, images, P, channels, threads=3))
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda t: render_native(pack, images, P, channels, threads=t), [1, 2, 3, 64]))
    assert all(torch.equal(one, result) for result in results)


def test_the_first_views_are_a_prefix():
    images = made_images(8, np.uint8, False)
    pack = drawn_pack(images, P)
    count = 2 * len(images)
    rows = int(pack.patches_V[:count].sum())
    teacher = render_native(pack, images, P, 1, first_views=count)
    assert torch.equal(teacher, render_native(pack, images, P, 1)[:rows])
    assert render_native(pack, images, P, 1, first_views=0).shape == (0, P * P)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_views_into_a_read_only_buffer_serve_unaligned(dtype):
    image = made_image(np.random.default_rng(9), 21, 33, dtype, colour=True)
    unaligned = np.frombuffer(b"\0" + image.tobytes(), dtype, image.size, offset=1).reshape(image.shape)
    assert not unaligned.flags.writeable
    pack = drawn_pack([image], P)
    assert torch.equal(render_native(pack, [unaligned], P, 3), render_native(pack, [image], P, 3))
    turned = np.asfortranarray(image)
    assert torch.equal(render_native(pack, [turned], P, 3), render_native(pack, [image], P, 3))


def test_threads_are_1_to_1024():
    image = np.zeros((20, 30), np.uint8)
    for threads in (0, 1025):
        with pytest.raises(ValueError, match=f"^render: threads must be 1 to 1024, got {threads}; pass"):
            render_native(one_view(image, (2, 3)), [image], P, 1, threads=threads)


def test_native_serves_and_the_reference_can_be_chosen():
    assert choose("auto") == ("native", render_native)
    assert choose("reference") == ("reference", render_reference)
    with pytest.raises(ValueError, match="must be auto, native, triton or reference, got 'gpu'"):
        choose("gpu")  # type: ignore[arg-type]
