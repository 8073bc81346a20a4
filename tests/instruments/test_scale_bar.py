"""ZooImage's scale bar: found where it is, painted over where it lies, nothing else touched."""

import numpy as np
import pytest

from aqqua.instruments.detect import find
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import ReadOptions, Record
from aqqua.instruments.scale_bar import find_bar, without_bar
from aqqua.instruments.tree import open_tree

PAPER, ANIMAL = 194, 50


def vignette(height: int = 60, width: int = 70, colour: bool = False) -> np.ndarray:
    """Paper with an animal that reaches under the bar."""
    levels = np.full((height, width), PAPER, np.uint8)
    levels[8:40, 20 : width - 10] = ANIMAL
    return np.repeat(levels[..., None], 3, axis=2) if colour else levels


def with_bar(pixels: np.ndarray, row: int = 3, length: int = 23, gap: int = 3) -> np.ndarray:
    """As ImageJ draws it: four black rows, and letters of one to two pixels below."""
    burnt = pixels.copy()
    end = pixels.shape[1] - gap
    burnt[row : row + 4, end - length : end] = 4
    for x in range(max(end - length, 0), end, 4):
        burnt[row + 6 : row + 14, x] = 0
    return burnt


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("length", "gap", "row"), [(23, 3, 3), (11, 1, 2), (11, 0, 0), (23, 8, 6)])
def test_the_bar_is_found_and_gone(length, gap, row, colour):
    plain = vignette(colour=colour)
    burnt = with_bar(plain, row, length, gap)
    end = burnt.shape[1] - gap
    assert find_bar(burnt) == (row, end - length, end)
    clean = without_bar(burnt, find_bar(burnt))
    assert clean.min() >= ANIMAL
    assert find_bar(clean) is None
    changed = (clean != burnt).reshape(*burnt.shape[:2], -1).any(axis=2)
    assert not changed[row + 18 :].any()
    assert not changed[:, : end - length - 27].any()
    # Under the bar is paper, under the letters the animal: what is painted is of its surroundings.
    assert (clean[row, end - length + 2 : end - 2] == PAPER).all()
    wrong = np.abs(clean.astype(int) - plain.astype(int)) > 0
    assert wrong.mean() < 0.03


def test_a_picture_without_a_bar_stays():
    assert find_bar(vignette()) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p[3:7, -26:-3].__setitem__(..., 45),  # an animal, not ink
        lambda p: p[30:34, -26:-3].__setitem__(..., 0),  # too low
        lambda p: p[3:7, 5:28].__setitem__(..., 0),  # at the left
        lambda p: p[3:5, -26:-3].__setitem__(..., 0),  # too thin
        lambda p: p[3:7, -8:-3].__setitem__(..., 0),  # too short
    ],
)
def test_what_only_resembles_a_bar_stays(spoil):
    pixels = vignette()
    spoil(pixels)
    assert find_bar(pixels) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (50, 3), (4, 7)])
def test_tiny_and_black_pictures_are_no_trap(shape):
    black = np.zeros(shape, np.uint8)
    bar = find_bar(black)
    if bar is not None:
        assert without_bar(black, bar).shape == shape


def test_sixteen_bits_have_no_bar():
    assert find_bar(np.zeros((30, 40), np.uint16)) is None


def test_real_vignettes_lose_their_bar(real_data):
    tree = open_tree(real_data / "zooscan" / "zooimage")
    records = [found for found in find(tree, ReadOptions()) if isinstance(found, Record)]
    stored = [EncodedImage(r.source).load(tree) for r in records]
    assert len(records) == 66
    assert sum(find_bar(pixels) is not None for pixels in stored) == 62
    for record, before in zip(records, stored, strict=True):
        pixels = record.pixels.load(tree)
        assert find_bar(pixels) is None, record.source
        if find_bar(before) is not None:
            assert (pixels[: len(pixels) // 4] < 15).mean() < 0.002, record.source
