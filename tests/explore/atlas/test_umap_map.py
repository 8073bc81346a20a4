"""Placing points among landmarks, and the square; UMAP itself runs in test_build.py."""

import sys

import numpy as np
import pytest

from aqqua.explore.atlas.neighbours import NONE, Found
from aqqua.explore.atlas.umap_map import UmapConfig, fit_into_square, fit_umap, place


def test_a_point_goes_to_the_group_of_most_of_its_landmarks_not_between():
    xy = np.array([[0, 0], [0, 0.02], [0.02, 0], [10, 10]], np.float32)
    found = Found(np.array([[0, 1, 2, 3]]), np.float32([[0.9, 0.9, 0.9, 0.9]]))
    placed = place(found, xy)
    assert np.abs(placed[0]).max() < 0.05  # the mean would be (2.5, 2.5)


def test_near_landmarks_weigh_more():
    xy = np.array([[0, 0], [1, 0]], np.float32)
    near = place(Found(np.array([[0, 1]]), np.float32([[0.99, 0.1]])), xy)
    assert near[0, 0] < 0.01


def test_absent_landmarks_do_not_count_and_one_is_enough():
    xy = np.array([[5, 5], [3, -1]], np.float32)
    found = Found(np.array([[1, NONE]]), np.float32([[0.4, 0]]))
    assert place(found, xy)[0].tolist() == pytest.approx([3, -1])
    told = []
    place(Found(np.array([[1, 1], [0, 0]]), np.ones((2, 2), np.float32)), xy, told.append)
    assert told == [2]


def test_the_square_keeps_the_aspect():
    xy = np.array([[0.0, 5], [10, 5], [4, 10]])
    assert fit_into_square(xy).tolist() == [[-1, -0.5], [1, -0.5], pytest.approx([-0.2, 0.5])]
    assert fit_into_square(np.full((3, 2), 7.0)).tolist() == [[0, 0]] * 3


def test_without_umap_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    found = Found(np.zeros((4, 2), np.int64), np.zeros((4, 2), np.float32))
    with pytest.raises(
        RuntimeError, match=r"needs the package umap-learn, got none; pip install 'aqqua\[explore\]'"
    ):
        fit_umap(np.eye(4), found, np.zeros((4, 2)), UmapConfig.model_validate({}), 0)
