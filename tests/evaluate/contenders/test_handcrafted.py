"""Handcrafted features: a disc and an ellipse by hand, µm, invariances, odd images."""

import math

import numpy as np
import pytest

from aqqua.evaluate.contenders.handcrafted import FEATURES, LEVELS, Handcrafted, handcrafted_features

NAN = float("nan")


def ellipse(a=20, b=10, angle=0.0, side=80, contrast=-0.4):
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return np.where((u / a) ** 2 + (v / b) ** 2 < 1, contrast, 0).astype(np.float32)


def named(image, um_per_px=NAN):
    found = handcrafted_features(image, um_per_px)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    return dict(zip(FEATURES, found.tolist(), strict=True))


def test_an_ellipse_by_hand():
    got = named(ellipse())
    assert math.exp(got["log_area"]) == pytest.approx(math.pi * 200, rel=0.01)
    assert math.exp(got["log_esd"]) == pytest.approx(2 * math.sqrt(200), rel=0.01)
    assert math.exp(got["log_major"]) == pytest.approx(40, rel=0.02)
    assert math.exp(got["log_minor"]) == pytest.approx(20, rel=0.02)
    assert got["elongation"] == pytest.approx(0.5, abs=0.01)
    assert got["eccentricity"] == pytest.approx(math.sqrt(0.75), abs=0.01)
    assert got["solidity"] > 0.95
    assert got["image_share"] == pytest.approx(math.pi * 200 / 6400, rel=0.01)
    assert (got["grey_mean"], got["grey_q50"], got["holes"]) == pytest.approx((-0.4, -0.4, 0))
    assert got["grey_sd"] == pytest.approx(0, abs=1e-6)
    assert (got["found"], got["scale_known"]) == (1, 0)
    level = [got[f"level_{i}"] for i in range(LEVELS)]
    assert level[math.floor((1 - 0.4) / 2 * LEVELS)] == pytest.approx(1)


def test_lengths_in_micrometres_where_they_are_known():
    px, um = named(ellipse()), named(ellipse(), 5.0)
    assert um["scale_known"] == 1
    assert um["log_area"] - px["log_area"] == pytest.approx(math.log(25), abs=1e-5)
    for name in ("log_esd", "log_major", "log_minor", "log_perimeter", "log_image_height", "log_image_width"):
        assert um[name] - px[name] == pytest.approx(math.log(5), abs=1e-5)
    same = [n for n in FEATURES if not n.startswith("log_") and n != "scale_known"]
    assert {n: um[n] for n in same} == {n: px[n] for n in same}


def test_turned_it_has_the_same_shape():
    straight, turned = named(ellipse()), named(ellipse(angle=0.9))
    for name in ("log_area", "log_major", "elongation", "hu_1", "hu_2", "solidity", "grey_mean"):
        assert turned[name] == pytest.approx(straight[name], abs=0.03), name


def test_what_differs_is_told():
    disc, ring = ellipse(20, 20), ellipse(20, 20)
    star = np.maximum(np.abs(ellipse(30, 4)), np.abs(ellipse(4, 30)))
    ring[36:44, 36:44] = 0.4
    rough = disc * np.random.default_rng(0).uniform(0.5, 1.5, disc.shape)
    assert named(star)["solidity"] < 0.7 < named(disc)["solidity"]
    assert named(star)["circularity"] < named(disc)["circularity"] - 0.3
    assert named(ring)["grey_sd"] > 0.1
    assert named(rough.astype(np.float32))["gradient_mean"] > 2 * named(disc)["gradient_mean"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (9, 9)])
@pytest.mark.parametrize("value", [0.0, 0.9, -0.9])
def test_odd_images_have_finite_features(shape, value):
    image = np.zeros(shape, np.float32)
    image[shape[0] // 2, shape[1] // 2] = value
    assert named(image)["found"] == (value != 0 and image.size > 1)


def test_features_of_a_block(dataset):
    found = Handcrafted()(dataset, 0)
    known = np.isfinite(dataset.sizes(0).um_per_px)
    np.testing.assert_array_equal(found[:, FEATURES.index("scale_known")], known)
    assert found.std(axis=0)[FEATURES.index("log_area")] > 0
