"""Same picture or not, from pixels."""

import numpy as np
import pytest
from held_pictures import CHANGES, as_jpeg, organism

from aqqua.curate.copies.verify import SamePicture, agreement, is_same
from aqqua.curate.images.descriptor import posed

RULE = SamePicture()


def same(a: np.ndarray, b: np.ndarray, poses: range = range(8)) -> bool:
    found = agreement(a.astype(np.float32), b.astype(np.float32), list(poses), RULE)
    return is_same(found, RULE, float(a.max()), a.dtype == np.uint16)


@pytest.mark.parametrize("pose", range(8))
def test_the_pose_is_the_one_that_leads_back(pose):
    a = organism(1).astype(np.float32)
    b = np.ascontiguousarray(posed(a, pose))
    found = agreement(a, b, list(range(8)), RULE)
    assert found is not None
    assert found.correlation > 0.999
    assert np.array_equal(posed(b, found.pose), a)


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_the_same(change):
    assert all(same(organism(n), CHANGES[change](organism(n))) for n in range(20))


@pytest.mark.parametrize("up", [-2, 0, 2])
@pytest.mark.parametrize("right", [-2, 1])
def test_shifts_within_the_rule(up, right):
    picture = np.pad(organism(1), 8)
    assert same(picture, np.roll(picture, (up, right), (0, 1)))


def test_different_organisms_of_one_size_are_not_the_same():
    pictures = [organism(n) for n in range(25)]
    assert not any(same(pictures[i], pictures[j]) for i in range(25) for j in range(i))


def test_another_size_gain_or_a_mark_is_another_picture():
    picture = organism(1)
    assert not same(picture, picture[4:])
    assert not same(picture, (picture * 0.6).astype(np.uint8))
    marked = picture.copy()
    marked[5:9, 5:9] = 255
    assert not same(picture, marked)


def test_blurred_spots_in_other_noise_are_not_the_same():
    y, x = np.mgrid[:24, :24] - 11.5
    spot = 40 * np.exp(-(x * x + y * y) / 50)
    draw = np.random.default_rng(0)
    noisy = [np.clip(spot + draw.normal(20, 3, spot.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    assert not any(same(noisy[i], noisy[j]) for i in range(8) for j in range(i))
    assert all(same(one, as_jpeg(one, 90)) for one in noisy)


def test_flat_images_agree_with_nothing():
    assert agreement(np.zeros((9, 9), np.float32), np.ones((9, 9), np.float32), [0], RULE) is None
