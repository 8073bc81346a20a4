"""Drawings: lengths of scale bars, corners of views, greys, hidden patches."""

import base64
import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aqqua.explore.parameters import Parameters
from aqqua.explore.picture import (
    Greys,
    ScaleBar,
    corners,
    mask_svg,
    original_svg,
    outlines_svg,
    png_uri,
    view_svg,
)
from aqqua.explore.shown import ShownImage, ShownView
from aqqua.plan.view_config import ViewConfig

PARAMETERS = Parameters(
    is_global=True, number=2, grid=(2, 3), map_23=np.array([[0.5, 0, 4], [0, 0.5, 6]], np.float32),
    um_per_px=1.25, scale_hidden=False, angle_deg=0.0, mirrored=False, zoom=2.0, stretch=1.0, gain=1.0,
    offset=0.0, inverted=False, solarized=False, saturation=1.0, hue=0.0, sigma_source_px=0.0, blur_px=0.0,
    specks=0, noise=0.0,
)  # fmt: skip


def view_of(mask: list[list[bool]] | None = None) -> ShownView:
    """2 × 3 patches of 10 px."""
    values = np.linspace(-4, 4, 600, dtype=np.float32).reshape(20, 30, 1)
    return ShownView(PARAMETERS, values, None if mask is None else np.array(mask))


def image_of(pixels: np.ndarray, background: tuple[int, ...] = (7,)) -> ShownImage:
    return ShownImage("id", None, "made", pixels, 2.5, background, (1, 2, 11, 22), (view_of(),), 10)


def opened(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.mark.parametrize(
    ("width_px", "um_per_px", "text", "px"),
    [
        (100, 2.5, "100 µm", 40),  # at most 60 px are 150 µm
        (100, 0.294, "10 µm", 34.0136),
        (28, 0.5544, "5 µm", 9.01876),
        (400, 10, "2 mm", 200),
        (100, float("nan"), "50 px, scale unknown", 50),
        (14, float("nan"), "5 px, scale unknown", 5),
        (100, 0.01, "0.5 µm", 50),
    ],
)
def test_a_scale_bar_by_hand(width_px, um_per_px, text, px):
    bar = ScaleBar.of(width_px, um_per_px)
    assert bar.text == text
    assert bar.px == pytest.approx(px, abs=1e-4)


@given(width_px=st.integers(8, 5000), um_per_px=st.floats(0.01, 1000))
def test_a_scale_bar_is_true_and_fits(width_px, um_per_px):
    bar = ScaleBar.of(width_px, um_per_px)
    assert bar.px * um_per_px == pytest.approx(bar.length)
    assert 0.24 * width_px <= bar.px * (1 + 1e-9)
    assert bar.px <= 0.6 * width_px * (1 + 1e-9)
    digits = f"{bar.length:.6e}"
    assert digits[0] in "125"
    assert float(digits.partition("e")[0]) == float(digits[0])


def test_a_view_is_drawn_as_the_model_gets_it():
    view = view_of()
    svg, bar = view_svg(view, Greys(0.5, 0.125), 3, "i1G2")
    drawing = ET.fromstring(svg)
    image, line = drawing.findall("image")[0], drawing.findall("rect")[0]
    assert (image.get("width"), image.get("height"), image.get("id")) == ("30", "20", "i1G2")
    assert float(drawing.get("width")) == 90  # three times
    greys = opened(image.get("href"))
    assert greys.shape == (20, 30)
    assert (greys[0, 0], greys[-1, -1]) == (0, 255)
    assert np.array_equal(greys, np.rint(255 * (0.5 + 0.125 * view.values_hwC[..., 0].astype(float))))
    assert bar.text == "20 µm"  # 18 px are 22.5 µm
    assert float(line.get("width")) == 16
    assert float(line.get("y")) >= 20  # below the picture, not on it


def test_hidden_patches_lie_where_the_mask_says():
    svg = mask_svg(view_of([[False, True, False], [True, False, False]]), 10, 3, "i1G2")
    drawing = ET.fromstring(svg)
    assert drawing.find("use").get("href") == "#i1G2"
    assert drawing.find("path").get("d") == "M10 0h10v10h-10zM0 10h10v10h-10z"


def test_corners_follow_the_map():
    assert corners(PARAMETERS, 10) == [(4, 6), (19, 6), (19, 16), (4, 16)]
    turned = replace(PARAMETERS, map_23=np.array([[0, -1, 30], [1, 0, 10]], np.float32))
    assert corners(turned, 10) == [(30, 10), (30, 40), (10, 40), (10, 10)]


def test_the_original_and_where_its_views_lie():
    pixels = np.arange(12 * 24, dtype=np.uint16).reshape(12, 24) * 200
    image = image_of(pixels, background=(0x8765,))
    svg, bar = original_svg(image, 2, "i1")
    drawing = ET.fromstring(svg)
    assert np.array_equal(opened(drawing.find("image").get("href")), pixels >> 8)
    assert bar.text == "20 µm"  # 14.4 px are 36 µm
    assert float(drawing.find("rect").get("width")) == 8

    drawing = ET.fromstring(outlines_svg(image, 10, 2, "i1"))
    assert drawing.get("viewBox") == "0 0 24 16"  # a view ends 4 px below the image
    ground, box = drawing.findall("rect")
    assert ground.get("fill") == "#878787"
    assert [box.get(name) for name in ("x", "y", "width", "height")] == ["2", "1", "20", "10"]
    assert drawing.find("polygon").get("points") == "4.00,6.00 19.00,6.00 19.00,16.00 4.00,16.00"
    assert (drawing.find("circle").get("cx"), drawing.find("circle").get("cy")) == ("4.00", "6.00")


def test_a_large_colour_original_is_reduced_but_keeps_its_place():
    pixels = np.zeros((10, 2050, 3), np.uint8)
    pixels[..., 2] = 200
    svg, _ = original_svg(image_of(pixels, background=(1, 2, 3)), 0.2, "i1")
    image = ET.fromstring(svg).find("image")
    assert (image.get("width"), image.get("height")) == ("2050", "10")
    assert opened(image.get("href")).shape == (4, 684, 3)
    assert 'fill="#010203"' in outlines_svg(image_of(pixels, background=(1, 2, 3)), 10, 0.2, "i1")


def test_greys():
    values = np.array([[[0.0], [4.0], [-4.0], [4.5]]], np.float32)
    assert Greys.of(ViewConfig(std=0.25)).bytes_of(values).ravel().tolist() == [128, 255, 0, 255]
    assert Greys.of(ViewConfig(std=0.25)).clipped_share(values) == 0.25
    kept = Greys.of(ViewConfig(subtract_background=False, mean=0.4, std=0.2))
    assert kept.bytes_of(np.array([[[0.0], [1.0], [3.0]]], np.float32)).ravel().tolist() == [102, 153, 255]


def test_a_png_keeps_every_pixel():
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(opened(png_uri(colour)), colour)
