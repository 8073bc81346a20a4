"""shape_of: by hand, and against the features of a real IFCB bin."""

import numpy as np
import pytest
from golden_ifcb import features, masks

from aqqua.downstream.size.segment import blobs
from aqqua.downstream.size.shape import ONE_PIXEL, esd, shape_of


def test_a_rectangle_by_hand():
    mask = np.zeros((20, 30), bool)
    mask[5:11, 4:24] = True  # 6 rows of 20 pixels
    shape = shape_of(mask)
    assert shape.area_px == 120
    assert shape.esd_px == pytest.approx(2 * np.sqrt(120 / np.pi))
    # Sample variance of 0..19, each six times: (20² − 1)/12 · 120/119.
    assert shape.major_px == pytest.approx(4 * np.sqrt(399 / 12 * 120 / 119))
    assert shape.minor_px == pytest.approx(4 * np.sqrt(35 / 12 * 120 / 119))
    assert shape.feret_px == pytest.approx(np.hypot(6, 20))
    assert shape.perimeter_px == pytest.approx(2 * (19 + 5))
    assert shape.convex_area_px == pytest.approx(19 * 5 + 19 + 5)
    assert np.sin(shape.angle) == pytest.approx(0, abs=1e-12)
    assert shape.eccentricity == pytest.approx(np.sqrt(1 - 35 / 399))


@pytest.mark.parametrize("turned", [np.rot90, np.flipud, np.fliplr, np.transpose])
def test_turning_and_mirroring_change_no_size(turned):
    mask = np.random.default_rng(3).random((12, 17)) > 0.4
    mask = blobs(mask)[0].mask_HW
    first, second = shape_of(mask), shape_of(turned(mask))
    for name in ("area_px", "esd_px", "major_px", "minor_px", "perimeter_px", "feret_px", "convex_area_px"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-12), name


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_the_smallest_have_a_size(shape):
    found = shape_of(np.ones(shape, bool))
    assert found.minor_px >= ONE_PIXEL
    assert found.feret_px == pytest.approx(np.hypot(*shape))
    assert np.isfinite([found.perimeter_px, found.convex_area_px, found.eccentricity, found.angle]).all()


def test_the_esd_of_science():
    assert esd(0.430257) == pytest.approx(0.740149, rel=1e-6)


def test_refuses_an_empty_mask():
    with pytest.raises(ValueError, match="at least one pixel"):
        shape_of(np.zeros((3, 3), bool))


def test_equals_the_ifcb_features(real_data):
    wanted, compared = features(real_data), 0
    for roi, mask in masks(real_data).items():
        for number, blob in enumerate(blobs(mask), start=1):
            golden, shape = wanted[roi, number], shape_of(blob.mask_HW)
            assert shape.area_px == golden["Area"]
            assert shape.esd_px == pytest.approx(golden["EquivDiameter"], rel=1e-9)
            assert shape.major_px == pytest.approx(golden["MajorAxisLength"], rel=1e-9)
            assert shape.minor_px == pytest.approx(golden["MinorAxisLength"], rel=1e-9)
            assert shape.perimeter_px == pytest.approx(golden["Perimeter"], rel=1e-9)
            assert shape.convex_area_px == pytest.approx(golden["ConvexArea"], rel=1e-9)
            assert shape.eccentricity == pytest.approx(golden["Eccentricity"], rel=1e-8)
            # There the largest width over whole degrees, here over all angles: never less.
            assert golden["maxFeretDiameter"] * (1 - 1e-9) <= shape.feret_px
            assert shape.feret_px <= golden["maxFeretDiameter"] * 1.0001
            compared += 1
    assert compared == 9
