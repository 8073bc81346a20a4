"""Specks over views: how many, where, how large and how deep; and that they change nothing else."""

from dataclasses import fields

import numpy as np
import pytest
from made_sizes import isiis_like
from made_views import plan

from aqqua.plan.view_config import MOST_SPECKS, ViewConfig
from aqqua.plan.views import Views

P = 8


def planned(config: ViewConfig, background: int = 255, count: int = 1000) -> Views:
    return plan(*isiis_like(count), config, patch_px=P, background=background)


def test_without_specks_there_is_no_array_and_with_them_nothing_else_changes():
    none, some = planned(ViewConfig()), planned(ViewConfig(specks=5))
    assert none.speck_ISK4.shape == (1000, 10, 0, 4)
    for field in fields(Views):
        if field.name != "speck_ISK4":
            assert np.array_equal(getattr(none, field.name), getattr(some, field.name), equal_nan=True)


@pytest.mark.parametrize("most", [1, 3, MOST_SPECKS])
def test_every_number_of_specks_occurs_alike(most):
    specks = planned(ViewConfig(specks=most, speck_odds=0.4)).speck_ISK4
    number = (specks[..., 2] > 0).sum(axis=-1)
    counts = np.bincount(number.ravel(), minlength=most + 1) / number.size
    assert counts[0] == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose(counts[1:], 0.4 / most, atol=0.02)
    # The first ones are there, the rest is 0 throughout.
    there = np.arange(most) < number[..., None]
    assert (specks[~there] == 0).all()
    assert (specks[there][:, 2] > 0).all()


def test_they_lie_in_their_view_and_are_as_large_as_asked():
    config = ViewConfig(specks=4, speck_odds=1, speck_radius=(0.1, 0.2))
    views = planned(config)
    there = views.speck_ISK4[..., 2] > 0
    size_px = np.broadcast_to(views.grid_IS2[:, :, None] * P, (*there.shape, 2))[there]
    x, y, radius, _ = views.speck_ISK4[there].T
    for at, side in ((x, size_px[:, 1]), (y, size_px[:, 0])):
        assert (at >= 0).all()
        assert (at <= side).all()
        assert (at / side).mean() == pytest.approx(0.5, abs=0.01)
    share = radius / size_px.min(axis=-1)
    assert share.min() == pytest.approx(0.1, abs=1e-3)
    assert share.max() == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize(("background", "end"), [(255, 0), (129, 0), (127, 255), (0, 255)])
def test_they_are_dark_on_bright_water_and_bright_on_dark(background, end):
    config = ViewConfig(specks=1, speck_odds=1, speck_depth=(0.25, 0.75))
    level = planned(config, background).speck_ISK4[..., 0, 3]
    depth = (level * 255 - background) / (end - background)
    assert depth.min() == pytest.approx(0.25, abs=0.01)
    assert depth.max() == pytest.approx(0.75, abs=0.01)
    assert ((level >= 0) & (level <= 1)).all()


def test_views_visits_and_images_have_specks_of_their_own():
    config = ViewConfig(specks=2, speck_odds=1)
    first = planned(config).speck_ISK4[:, :, 0, 0]
    assert len(np.unique(first)) > 0.9 * first.size
    again = plan(*isiis_like(1000), config, patch_px=P, visit=1).speck_ISK4[:, :, 0, 0]
    assert (first == again).mean() < 0.01
