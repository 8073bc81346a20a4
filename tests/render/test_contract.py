"""What renderers refuse: all of them the same, in the same words; and what they make of nothing."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from made_packs import made_images, one_view, pack_of, sizes_of

from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views
from aqqua.render.native import render_native
from aqqua.render.reference import render_reference
from aqqua.render.triton import render_triton

P = 8
RENDERERS = {
    "native": render_native,
    "reference": render_reference,
    "triton": partial(render_triton, device="cuda" if torch.cuda.is_available() else "cpu"),
}
ALL = pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS.keys())
ZEROS = np.zeros((20, 30), np.uint8)
NUMBERS = [
    "map_V23", "sigma_V", "scale_V", "bias_VC", "noise_V", "speck_VK4", "colour_V33", "fold_VC",
]  # fmt: skip
SPOILT_SIZES = {"height", "width", "channels", "bits", "background"}


def changed(**changes: Any) -> tuple[Pack, list[np.ndarray], dict[str, Any]]:
    """A pack of one view of one image of 20 x 30 px, some of the arguments or arrays replaced."""
    options: dict[str, Any] = {"patch_px": P, "channels": 1}
    given = {name: changes.pop(name) for name in ("patch_px", "first_views", "dtype") if name in changes}
    if "model_channels" in changes:
        given["channels"] = changes.pop("model_channels")
    images = changes.pop("images", [ZEROS])
    sizes = {name: changes.pop(name) for name in SPOILT_SIZES & changes.keys()}
    pack = one_view(ZEROS, (2, 3))
    pack = dataclasses.replace(pack, sizes=dataclasses.replace(pack.sizes, **sizes), **changes)
    return pack, images, options | given


def single(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


WRONG = {
    "no images": ({"images": []}, "one image per plan entry must be given, got 0 of 1; fetch them all"),
    "other sides": (
        {"images": [np.zeros((20, 31), np.uint8)]},
        r"image 0 must be uint8 \[20, 30\] as planned, got uint8 \[20, 31\]; plan it anew",
    ),
    "16 bits": ({"images": [np.zeros((20, 30), np.uint16)]}, r"as planned, got uint16 \[20, 30\]; plan it"),
    "8 bits": ({"bits": np.array([16], np.int8)}, r"image 0 must be uint16 \[20, 30\] as planned, got uint8"),
    "colour": ({"images": [np.zeros((20, 30, 3), np.uint8)]}, r"as planned, got uint8 \[20, 30, 3\]"),
    "alpha": (
        {"images": [np.zeros((20, 30, 4), np.uint8)], "channels": np.array([3], np.int8)},
        r"image 0 must be uint8 \[20, 30, 3\] as planned, got uint8 \[20, 30, 4\]",
    ),
    "floats": ({"images": [np.zeros((20, 30), np.float32)]}, "as planned, got float32"),
    "byte order": (
        {"images": [np.zeros((20, 30), ">u2")], "bits": np.array([16], np.int8)},
        "as planned, got >u2",
    ),
    "a list": ({"images": [[[0]]]}, "image 0 must be a NumPy array, got <class 'list'>; decode it first"),
    "2 channels": ({"model_channels": 2}, "channels must be 1 or 3, got 2; set model.channels"),
    "no patch": ({"patch_px": 0}, "patch_px must be 1 to 1024, got 0; set model.patch_px"),
    "large patch": ({"patch_px": 2000}, "patch_px must be 1 to 1024, got 2000; set"),
    "views below 0": ({"first_views": -1}, "first_views must be 0 to the 1 views, got -1; leave it out"),
    "views beyond": ({"first_views": 2}, "first_views must be 0 to the 1 views, got 2; leave it out"),
    "float16": ({"dtype": torch.float16}, "dtype must be .*, got torch.float16; convert the rows"),
    "float64": ({"dtype": torch.float64}, "dtype must be .*, got torch.float64; convert the rows"),
    "int16": ({"dtype": torch.int16}, "dtype must be .*, got torch.int16; convert the rows"),
    "sigma -1": ({"sigma_V": single(-1)}, "sigma of view 0 must be 0 to 1000 px, got -1.0; lower"),
    "sigma 1e9": ({"sigma_V": single(1e9)}, "sigma of view 0 must be 0 to 1000 px, got 1000000000.0"),
    "no sigma": ({"sigma_V": single()}, r"sigma_V must be float32 \[1\], got float32 \[0\]; take it from a"),
    "double": ({"scale_V": np.ones(1)}, r"scale_V must be float32 \[1\], got float64 \[1\]"),
    "nine specks": ({"speck_VK4": np.zeros((1, 9, 4), np.float32)}, r"must be float32 \[1, 0 to 8, 4\]"),
    "specks of 3": ({"speck_VK4": np.zeros((1, 2, 3), np.float32)}, r"got float32 \[1, 2, 3\]; take it"),
    "double specks": ({"speck_VK4": np.zeros((1, 2, 4))}, r"speck_VK4 must be .*, got float64 \[1, 2, 4\]"),
    "flat specks": ({"speck_VK4": np.zeros((1, 4), np.float32)}, r"speck_VK4 must be .* got float32 \[1, 4"),
    "colour of 2": ({"colour_V33": np.zeros((1, 2, 3), np.float32)}, r"colour_V33 must be .* \[1, 3, 3\]"),
    "one fold": ({"fold_VC": single(1)}, r"fold_VC must be float32 \[1, 3\], got float32 \[1\]"),
    "no patches": ({"grid_V2": np.array([[0, 3]], np.int32)}, "view 0 must be 1 patch to .*, got 0 x 3"),
    "less": ({"grid_V2": np.array([[-2, 3]], np.int32)}, "view 0 must be 1 patch to .*, got -2 x 3; lower"),
    "least": ({"grid_V2": np.array([[-2, -3]], np.int32)}, "view 0 must be 1 patch to .*, got -2 x -3"),
    "more": ({"grid_V2": np.full((1, 2), 1 << 15, np.int32)}, "1 patch to 2..31 values, got 32768 x 32768"),
    "channels": ({"channels": np.array([2], np.int8)}, "image 0 must have 1 or 3 channels .*, got 2 of 8"),
    "bits": ({"bits": np.array([1], np.int8)}, "image 0 must have 1 or 3 channels of .* bits, got 1 of 1"),
    "no height": ({"height": np.array([0], np.int32)}, "sides of image 0 must be 1 to .*, got 0 x 30"),
    "width": ({"width": np.array([1 << 24], np.int32)}, "sides of image 0 must be .*, got 20 x 16777216"),
    "far height": ({"height": np.array([20 + (1 << 32)])}, r"height must be int32 \[1\], got int64 \[1\]"),
    "background": ({"background": np.full((1, 3), -1)}, r"background must be uint16 \[1, 3\], got int64"),
    "half grey": ({"background": np.full((1, 3), 100.9)}, r"background must be uint16 \[1, 3\], got float64"),
    "pixels": (
        {"height": np.array([1 << 23], np.int32), "width": np.array([1 << 23], np.int32)},
        r"image 0 must have fewer than 2\*\*31 values, got 70368744177664; leave it out",
    ),
}  # fmt: skip


@ALL
@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said(render, changes, message):
    pack, images, options = changed(**changes)
    with pytest.raises(ValueError, match=f"^render: .*{message}"):
        render(pack, images, **options)


@ALL
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", NUMBERS)
def test_numbers_must_be_finite(render, field, number):
    pack = one_view(ZEROS, (2, 3), specks=((1, 1, 0, 0),))
    spoilt = getattr(pack, field).copy()
    spoilt.flat[-1] = number
    message = f"^render: {field} of view 0 must be finite, got {number}; plan the pack again"
    with pytest.raises(ValueError, match=message):
        render(dataclasses.replace(pack, **{field: spoilt}), [ZEROS], P, 1)


@ALL
def test_the_plane_of_a_blur_must_be_countable(render):
    """No pixel of it is ever touched: 40,000 x 40,000 px and 2 x 3,000 px of blur on each side."""
    side = 41_000
    image = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (side, side), (0, 0))
    pack = dataclasses.replace(
        one_view(ZEROS, (2, 3), sigma=1000.0),
        sizes=dataclasses.replace(
            sizes_of([ZEROS]), height=np.array([side], np.int32), width=np.array([side], np.int32)
        ),
    )
    message = "image 0 and its blur must have fewer than 2..31 pixels, got 41000 x 41000; leave it out"
    with pytest.raises(ValueError, match=f"^render: {message}"):
        render(pack, [image], P, 1)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_of_no_views_come_no_rows(render, channels, dtype):
    images = made_images(8, np.uint8, colour=False)
    for some in (images, []):
        sizes, visits = sizes_of(images).take(np.arange(len(some))), np.zeros(len(some), np.uint64)
        pack = pack_of(sizes, plan_views(sizes, visits, 0, P, ViewConfig(locals=0)), visits)
        rows = render(pack, some, P, channels, first_views=0 if some else None, dtype=dtype)
        assert rows.shape == (0, P * P * channels)
        assert rows.dtype == dtype
