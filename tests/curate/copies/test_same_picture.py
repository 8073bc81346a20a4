"""Same picture or not, from pixels."""

from itertools import product

import numpy as np
import pytest
from held_pictures import CHANGES, as_jpeg, organism, real_uvp6

from aqqua._core import same_pictures
from aqqua.curate.copies.verify import Pictures, SamePicture, agreement, agreements, is_same
from aqqua.curate.images.descriptor import difference, posed

RULE = SamePicture()


def same(a: np.ndarray, b: np.ndarray, poses: range = range(8)) -> bool:
    found = agreement(a.astype(np.float32), b.astype(np.float32), list(poses), RULE)
    return bool(is_same(found, RULE, np.array(a.dtype == np.uint16)))


def together(images: list[np.ndarray]) -> Pictures:
    shape = np.array([one.shape for one in images], np.int32)
    ends = np.cumsum(shape.prod(axis=1, dtype=np.int64))
    pixels = np.concatenate([np.ascontiguousarray(one, np.float32).ravel() for one in images])
    return Pictures(pixels, ends - shape.prod(axis=1), shape)


def assert_as_specified(
    images: list[np.ndarray], pairs: np.ndarray, rule: SamePicture, tolerance: float
) -> int:
    """C++ against Python over pairs [P, 2] in all poses; returns how many of them agree at all."""
    held = together(images)
    a_P, b_P = (np.ascontiguousarray(pairs[:, k], np.int64) for k in (0, 1))
    poses = np.tile(np.arange(8, dtype=np.int8), (len(pairs), 1))
    found = agreements(held, held, a_P, b_P, poses, rule, threads=2)
    said = is_same(found, rule, np.zeros(len(pairs), bool))
    for k, (a, b) in enumerate(pairs.tolist()):
        one = agreement(images[a], images[b], list(range(8)), rule)
        assert found.pose[k] == one.pose, k
        assert said[k] == is_same(one, rule, np.array(False)), k
        for name in ("correlation", "smooth", "gain", "residual", "detail", "peak"):
            wanted, unit = float(getattr(one, name)), float(one.peak) if name == "residual" else 1.0
            assert abs(float(getattr(found, name)[k]) - wanted) <= tolerance * max(unit, abs(wanted)), (
                k,
                name,
            )
    return int((found.pose >= 0).sum())


def loose(**config: float) -> SamePicture:
    return SamePicture(correlation=0.3, **config)  # so that every number of many pairs is compared


@pytest.mark.parametrize("shift_px", [0, 2, 5])
def test_many_at_once_are_bit_for_bit_the_specification_where_pixels_are_whole(shift_px):
    pictures = [organism(n, 20 + n) for n in range(5)]
    pictures += [np.ascontiguousarray(change(pictures[n % 5])) for n, change in enumerate(CHANGES.values())]
    images = [one.astype(np.float32) - 20 for one in pictures]
    pairs = np.array(list(product(range(len(images)), repeat=2)))
    assert assert_as_specified(images, pairs, loose(shift_px=shift_px), 0.0) > len(images)


def test_many_at_once_agree_with_the_specification_in_colour_and_16_bits():
    draw = np.random.default_rng(0)
    images = []
    for n in range(6):
        colour = np.stack([organism(n), organism(n) // 2, organism(n) // 3], axis=2)
        images.append(difference(colour, np.array([3, 1, 2])))
        images.append(organism(n).astype(np.float32)[::-1] * 250 + draw.integers(0, 500, (47, 40)))
    images = [np.ascontiguousarray(one, np.float32) for one in images]
    pairs = np.array(list(product(range(len(images)), repeat=2)))
    assert assert_as_specified(images, pairs, loose(), 1e-5) > 0


def test_images_of_every_small_size_are_as_specified():
    draw = np.random.default_rng(1)
    images = [
        draw.integers(-9, 9, (h, w)).astype(np.float32) for h in (1, 2, 3, 8, 17) for w in (1, 5, 16, 33)
    ]
    images += [np.zeros((9, 9), np.float32), np.full((9, 10), 4, np.float32)]
    pairs = np.array(list(product(range(len(images)), repeat=2)))
    assert assert_as_specified(images, pairs, loose(size_px=16), 1e-9) > 0


def test_real_pairs_are_bit_for_bit_as_specified(real_data, tmp_path):
    dataset = real_uvp6(real_data, tmp_path / "uvp6")
    block, draw = dataset.block(0), np.random.default_rng(2)
    images = [difference(block.pixels(i), block.sizes.background[i]) for i in range(120)]
    copies = [difference(as_jpeg(block.pixels(i), 75), block.sizes.background[i]) for i in range(40)]
    pairs = np.concatenate(
        [draw.integers(0, 160, (80, 2)), np.stack([np.arange(40), np.arange(120, 160)], axis=1)]
    )
    assert assert_as_specified([*images, *copies], pairs, loose(size_px=16), 0.0) >= 40


def test_a_thin_faint_line_is_found_after_jpeg_another_is_not():
    def line(slope: float) -> np.ndarray:
        y, x = np.mgrid[:40, :48]
        return np.where(np.abs(y - 6 - slope * x) < 0.7, 215, 255).astype(np.uint8)

    def lit(pixels: np.ndarray) -> np.ndarray:
        return pixels.astype(np.float32) - 255

    copy = as_jpeg(line(0.55), 75)
    assert bool(is_same(agreement(lit(line(0.55)), lit(copy), [0], RULE), RULE, np.array(False)))
    assert not bool(is_same(agreement(lit(line(0.55)), lit(line(0.62)), [0], RULE), RULE, np.array(False)))


def test_what_does_not_fit_is_refused():
    held = together([organism(1)])
    zero, pose = np.zeros(1, np.int64), np.zeros((1, 1), np.int8)
    rest = {"size_px": 2, "shift_px": 2, "correlation": 0.7}
    one = (held.pixels, held.start, held.shape)
    for bad in (zero + 1, zero - 1):
        with pytest.raises(ValueError, match="b_P must be 0 to images - 1"):
            same_pictures(*one, *one, zero, bad, pose, **rest)
    with pytest.raises(ValueError, match="every image must lie within the pixels"):
        same_pictures(held.pixels[:-1], held.start, held.shape, *one, zero, zero, pose, **rest)
    with pytest.raises(ValueError, match="poses must be below 8"):
        same_pictures(*one, *one, zero, zero, pose + 8, **rest)


@pytest.mark.parametrize("pose", range(8))
def test_the_pose_is_the_one_that_leads_back(pose):
    a = organism(1).astype(np.float32)
    b = np.ascontiguousarray(posed(a, pose))
    found = agreement(a, b, list(range(8)), RULE)
    assert found.correlation > 0.999
    assert np.array_equal(posed(b, int(found.pose)), a)


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
    assert agreement(np.zeros((9, 9), np.float32), np.ones((9, 9), np.float32), [0], RULE).pose == -1
