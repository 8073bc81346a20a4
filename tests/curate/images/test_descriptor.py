"""Small pictures and hashes: what poses and shifts leave as it is."""

import numpy as np
import pytest
from held_pictures import organism
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.curate.images.descriptor import (
    GRID,
    averaging,
    centred_picture,
    difference,
    invariants,
    perceptual_hash,
    posed,
    poses,
    quantised,
    unit_pictures,
)

BLACK = np.zeros(3, np.uint16)


def descriptor(pixels: np.ndarray) -> np.ndarray:
    return quantised(centred_picture(difference(pixels, BLACK))[None])[0]


@pytest.mark.parametrize("pose", range(8))
def test_hash_and_invariants_are_those_of_every_pose(pose):
    for number in range(20):
        pixels = organism(number)
        one, other = descriptor(pixels), descriptor(np.ascontiguousarray(posed(pixels, pose)))
        assert np.linalg.norm(invariants(one) - invariants(other)) < 0.03
        assert np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(other))[0] <= 4


def test_poses_of_one_picture_have_exactly_its_invariants():
    pictures = np.stack([descriptor(organism(n))[0] for n in range(10)])
    expected = invariants(pictures)
    for turned in poses(pictures):
        assert np.allclose(invariants(turned), expected, atol=1e-5)


def test_posed_and_poses_count_alike():
    picture = np.arange(GRID * GRID).reshape(GRID, GRID)
    for number, turned in enumerate(poses(picture)):
        assert np.array_equal(posed(picture, number), turned)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 100))
def test_invariants_are_never_further_apart_than_the_pictures_in_their_best_pose(seed, noise):
    draw = np.random.default_rng(seed)
    one = draw.integers(0, 256, (1, GRID, GRID)).astype(np.uint8)
    other = np.clip(one + draw.normal(0, noise, one.shape), 0, 255).astype(np.uint8)
    a, b = unit_pictures(one), poses(unit_pictures(other))
    nearest = min(np.linalg.norm(a - pose) for pose in b)
    assert np.linalg.norm(invariants(one) - invariants(other)) <= nearest + 1e-4


def test_a_shift_by_whole_pixels_leaves_the_picture():
    pixels = np.pad(organism(3), 6)
    moved = np.roll(pixels, (2, -3), (0, 1))
    assert np.abs(descriptor(pixels).astype(int) - descriptor(moved)).max() <= 1


def test_different_organisms_have_different_hashes():
    hashes = perceptual_hash(np.concatenate([descriptor(organism(n)) for n in range(60)]))
    assert len(np.unique(hashes)) == 60
    distance = np.bitwise_count(hashes[:, None] ^ hashes)[np.triu_indices(60, 1)]
    assert np.median(distance) > 12


@pytest.mark.parametrize("side", [1, 2, 5, 16, 33, 400])
def test_averages_of_a_constant_are_that_constant(side):
    assert np.allclose(averaging(side).sum(axis=1), 1, atol=1e-5)


def test_a_flat_picture_is_grey_and_has_no_scale():
    bytes_IGG, scale = quantised(np.zeros((2, GRID, GRID), np.float32))
    assert (bytes_IGG == 128).all()
    assert (scale == 0).all()
    assert np.isfinite(invariants(bytes_IGG)).all()


def test_colour_and_16_bits_look_as_grey_of_8():
    grey = organism(5)
    wide = grey.astype(np.uint16) * 257
    assert np.array_equal(descriptor(grey), descriptor(wide))
    assert np.abs(descriptor(grey).astype(int) - descriptor(np.stack([grey] * 3, axis=2))).max() <= 1
