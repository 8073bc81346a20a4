"""Pixels of candidates on disk are those of the dataset."""

import numpy as np
import pytest
from held_pictures import hold, organism

from aqqua._core import pose_products
from aqqua.curate.copies.looks import LOOK, candidates, correlations, first_rows, spill_pixels
from aqqua.curate.copies.verify import SamePicture
from aqqua.curate.images.descriptor import (
    centred_picture,
    difference,
    posed,
    poses,
    quantised,
    unit_pictures,
)


def test_spilled_pixels_are_those_of_the_rows(tmp_path):
    pictures = [organism(n, 12 + n) for n in range(20)] + [organism(3).astype(np.uint16) * 9]
    dataset = hold(tmp_path / "data", pictures, block_rows=4)
    rows = np.array([0, 3, 4, 5, 11, 20])
    pixels = spill_pixels(dataset, rows, tmp_path / "pixels.bin")
    first = first_rows(dataset)
    for row in rows.tolist():
        number = int(np.searchsorted(first, row, side="right")) - 1
        block, i = dataset.block(number), row - int(first[number])
        found, wide = pixels.of(row)
        assert np.array_equal(found, difference(block.pixels(i), block.sizes.background[i]))
        assert wide == (block.sizes.bits[i] == 16)


def looks_of_pictures(pictures: list[np.ndarray]) -> np.ndarray:
    looks = np.zeros(len(pictures), LOOK)
    looks["row"] = looks["content"][:, 0] = np.arange(len(pictures))
    for look, one in zip(looks, pictures, strict=True):
        look["order"], look["short"], look["tall"] = (
            max(one.shape),
            min(one.shape),
            one.shape[0] > one.shape[1],
        )
        look["mean"], look["deviation"] = one.mean(), one.std()
        look["picture"] = quantised(centred_picture(one.astype(np.float32))[None])[0][0]
    return looks


@pytest.mark.parametrize("pose", range(8))
def test_the_first_pose_of_a_pair_leads_back_whichever_is_named_first(pose):
    a = organism(1)
    pictures = [a, np.ascontiguousarray(posed(a, pose))]
    looks = looks_of_pictures(pictures)
    for left, right in ((0, 1), (1, 0)):
        for by_content in (False, True):
            (pair,) = candidates(looks[[left]], looks[[right]], False, SamePicture(), by_content)
            assert pair["a"] == (0 if by_content else left)
            assert np.array_equal(posed(pictures[pair["b"]], pair["poses"][0]), pictures[pair["a"]])


def test_poses_that_do_not_fit_the_size_are_not_tried():
    y, x = np.mgrid[:16, :16] - 7.5
    long = np.kron(100 * np.exp(-(x * x + y * y) / 20), np.ones((2, 6)))  # its small picture is round
    looks = looks_of_pictures([long, long[::-1] * 1.01, np.ascontiguousarray(long.T)])
    pairs = candidates(looks, looks, True, SamePicture())
    tried = {(p["a"], p["b"]): {one for one in p["poses"].tolist() if one >= 0} for p in pairs}
    assert tried[0, 1] <= {0, 2, 5, 7}
    assert tried[0, 2] <= {1, 3, 4, 6}


def test_correlations_are_those_of_the_small_pictures_in_all_poses():
    pictures = looks_of_pictures([organism(n, 20 + n) for n in range(12)])["picture"]
    i, j = np.repeat(np.arange(12), 3), np.arange(36) % 12
    found = correlations(pictures, pictures, i, j, threads=2)
    left, right = unit_pictures(pictures)[i], poses(unit_pictures(pictures))[:, j]
    assert found == pytest.approx(np.einsum("kij,pkij->kp", left, right), abs=1e-5)
    flat = np.full((1, 16, 16), 255, np.uint8)
    assert correlations(flat, pictures, np.zeros(2, np.int64), np.arange(2)).tolist() == [[0] * 8] * 2


def test_pairs_of_pictures_that_are_not_there_are_refused():
    pictures, none = np.zeros((2, 256), np.uint8), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="b_P must be 0 to pictures - 1, got 2"):
        pose_products(pictures, pictures, none, none + 2)
    with pytest.raises(ValueError, match="a_IC must be contiguous uint8"):
        pose_products(pictures[:, ::2], pictures, none, none)
