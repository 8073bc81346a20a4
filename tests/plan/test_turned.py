"""Turned whole images: nothing is lost, quarter turns are exact, and the draw follows seed and visit."""

import numpy as np
import pytest
from made_sizes import isiis_like, sizes

from aqqua.plan.turned import turned_views
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import whole_views
from aqqua.plan.whole import single_view_packs
from aqqua.render.reference import render_reference

VIEWS = ViewConfig()
IMAGES = sizes(*isiis_like(200))
FIRST = np.zeros(200, np.uint64)


def test_without_turn_and_flip_it_is_the_whole_view():
    turned = turned_views(IMAGES, FIRST, 0, 8, VIEWS, "none", False)
    plain = whole_views(IMAGES, 8, VIEWS.max_tokens[0], VIEWS.min_tokens[0], VIEWS)
    np.testing.assert_array_equal(turned.grid_IS2, plain.grid_IS2)
    np.testing.assert_allclose(turned.map_IS23, plain.map_IS23, atol=1e-5)


@pytest.mark.parametrize("turn", ["quarter", "any"])
def test_every_corner_of_the_image_stays_in_sight(turn):
    views = turned_views(IMAGES, FIRST, 3, 8, VIEWS, turn, True)
    for i in range(len(IMAGES)):
        linear, shift = views.map_IS23[i, 0, :, :2].astype(float), views.map_IS23[i, 0, :, 2]
        height, width = int(IMAGES.height[i]), int(IMAGES.width[i])
        corners = np.array([(0, 0), (width, 0), (0, height), (width, height)])
        seen = (corners - shift) @ np.linalg.inv(linear).T
        rim = 2 + 1e-3  # a quarter of a patch may fall off, as of a whole view
        assert (seen >= -rim).all()
        assert (seen <= views.grid_IS2[i, 0, ::-1] * 8 + rim).all()


def test_quarter_turns_and_mirrors_are_those_of_numpy():
    """A picture of whole patches, rendered by every turn that is drawn: its eight symmetries, exactly."""
    picture = np.random.default_rng(0).integers(0, 255, (32, 48)).astype(np.uint8)
    one = sizes(32, 48)
    wanted = [np.rot90(p, k) for p in (picture, picture[:, ::-1]) for k in range(4)]
    found = set()
    for visit in range(64):
        visit_I = np.array([visit], np.uint64)
        views = turned_views(one, visit_I, 0, 8, VIEWS, "quarter", True)
        nothing = np.zeros(1, np.int64)
        (pack,) = single_view_packs(one, views, nothing, nothing, visit_I, 8, 5, 300)
        rows, columns = pack.grid_V2[0]
        patches = render_reference(pack, [picture], 8, 1).numpy().reshape(rows, columns, 8, 8)
        shown = patches.transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8)
        level = (shown - pack.bias_VC[0, 0]) / pack.scale_V[0] * 255
        near = [w.shape == level.shape and np.abs(w - level).max() < 0.05 for w in wanted]
        assert sum(near) == 1
        found.add(near.index(True))
    assert found == set(range(8))


def test_another_visit_or_seed_is_another_turn_and_the_same_is_the_same():
    first = turned_views(IMAGES, FIRST, 0, 8, VIEWS, "any", True).map_IS23
    again = turned_views(IMAGES, FIRST, 0, 8, VIEWS, "any", True).map_IS23
    later = turned_views(IMAGES, FIRST + np.uint64(1), 0, 8, VIEWS, "any", True).map_IS23
    other = turned_views(IMAGES, FIRST, 1, 8, VIEWS, "any", True).map_IS23
    np.testing.assert_array_equal(first, again)
    assert (first != later).any(axis=(1, 2, 3)).mean() > 0.95
    assert (first != other).any(axis=(1, 2, 3)).mean() > 0.95
