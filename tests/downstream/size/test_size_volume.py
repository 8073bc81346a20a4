"""Volumes: by hand, on bodies whose volume is known, and against the Biovolume of a real IFCB bin."""

import numpy as np
import pytest
from golden_ifcb import features, masks

from aqqua.downstream.size.segment import blobs
from aqqua.downstream.size.shape import shape_of
from aqqua.downstream.size.volume import distance_map, moberg_sosik, prolate, solid_of_revolution, sphere


def ellipse(half_length, half_width, angle=0.0):
    side = int(2 * half_length + 6)
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / half_length) ** 2 + (across / half_width) ** 2 <= 1


def test_sphere_and_ellipsoid_by_hand():
    assert sphere(2.0) == pytest.approx(4 / 3 * np.pi)
    assert prolate(4.0, 2.0) == pytest.approx(4 / 3 * np.pi * 2 * 1)
    # EcoTaxa's individual volume: 4/3·π·(√(area/π)·pixel)³.
    area, pixel = 1983.0, 0.0106
    diameter = 2 * np.sqrt(area * pixel**2 / np.pi)
    assert sphere(diameter) == pytest.approx(4 / 3 * np.pi * (np.sqrt(area / np.pi) * pixel) ** 3)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, np.pi / 2])
def test_a_solid_of_revolution(angle):
    mask = ellipse(40, 15, angle)
    volume = solid_of_revolution(mask, shape_of(mask).angle)
    assert volume == pytest.approx(4 / 3 * np.pi * 40 * 15**2, rel=0.03)


def test_a_long_cylinder_by_its_distance_map():
    mask = np.ones((21, 400), bool)  # seen from the side, 21 px thick
    assert distance_map(mask) == pytest.approx(np.pi / 4 * 21**2 * 400, rel=0.1)


def test_horns_are_thin():
    """The distance map is for what is not convex: there a turned outline would hold far too much."""
    mask = np.zeros((101, 101), bool)
    mask[48:53, :] = mask[:, 48:53] = True  # two crossed rods
    rods = 2 * np.pi / 4 * 5**2 * 101
    assert moberg_sosik(mask, shape_of(mask)) == distance_map(mask)
    assert distance_map(mask) == pytest.approx(rods, rel=0.15)
    assert solid_of_revolution(mask, 0.0) > 3 * rods


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 1)])
def test_the_smallest_have_a_volume(shape):
    mask = np.ones(shape, bool)
    assert 0 < moberg_sosik(mask, shape_of(mask)) <= 2 * mask.size


def test_near_the_ifcb_biovolume(real_data):
    """The distance map to float32 of theirs; turned outlines differ by how a mask is turned on its grid."""
    wanted, ways = features(real_data), []
    for roi, mask in masks(real_data).items():
        for number, blob in enumerate(blobs(mask), start=1):
            golden, shape = wanted[roi, number]["Biovolume"], shape_of(blob.mask_HW)
            volume = moberg_sosik(blob.mask_HW, shape)
            ways.append(volume == distance_map(blob.mask_HW))
            assert volume == pytest.approx(golden, rel=2e-5 if ways[-1] else 0.03), (roi, number)
    assert sorted(ways) == [False] * 2 + [True] * 7
