"""Draws of class, size and relation: by hand in distribution, and free of order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import BUBBLE, CLASSES, COPEPOD, DETRITUS, DIATOM, DINO, certain

from aqqua.downstream.carbon.choose import choose
from aqqua.downstream.carbon.monte_carlo import CarbonModel, CarbonSizes, Uncertainty, drawn_classes, interval
from aqqua.downstream.carbon.registry import load_registry

DIATOM_N, DINO_N, COPEPOD_N, DETRITUS_N, BUBBLE_N = (
    CLASSES.index(c) for c in (DIATOM, DINO, COPEPOD, DETRITUS, BUBBLE)
)


def model(allow=False, **values):
    return CarbonModel(choose(CLASSES, load_registry(), allow), Uncertainty(**values))


def balls(volume_um3):
    volume = np.asarray(volume_um3, np.float64)
    return CarbonSizes(volume, np.pi / 4 * (6 * volume / np.pi) ** (2 / 3))


def keys(number):
    return np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


@pytest.mark.parametrize(
    ("number", "volume", "carbon"),
    [
        (DIATOM_N, 3000.0, 190.084),
        (DIATOM_N, 3000.001, 135.003),
        (DIATOM_N, 5000.0, 211.735),
        (DINO_N, 1000.0, 217.678),
        (DETRITUS_N, 1e9, 0.99e6),
        (DETRITUS_N, 1e10, 3.27820e6),
        (BUBBLE_N, 1e6, 0.0),
    ],
)
def test_the_estimate_is_the_relation(number, volume, carbon):
    assert model().estimate(np.array([number]), balls([volume])) == pytest.approx(carbon, rel=5e-6)


def test_dry_weight_becomes_carbon_by_the_middle_of_its_range():
    got = model(allow=True).estimate(np.array([COPEPOD_N]), CarbonSizes(np.array([1e9]), np.array([2e6])))
    assert got / 1e6 == pytest.approx(136.225 * 0.45, rel=5e-6)


def test_unknown_stays_unknown():
    plain = model(draws=8)
    assert np.isnan(plain.estimate(np.array([COPEPOD_N]), balls([1e6]))).all()
    assert np.isnan(plain.estimate(np.array([DINO_N]), balls([np.nan]))).all()
    draws = plain.draw(keys(2), np.full((2, 8), DINO_N), balls([np.nan, 1e3]))
    assert np.isnan(interval(draws)[:, 0]).all()
    assert np.isfinite(interval(draws)[:, 1]).all()


def test_nothing_drawn_is_the_estimate():
    sure = model(draws=4, size_sd=0.0, relation_log10_sd=0.0)
    number = np.array([DINO_N, DIATOM_N])
    draws = sure.draw(keys(2), sure.draw_classes(keys(2), number, certain(number)), balls([1e3, 5e3]))
    np.testing.assert_allclose(draws, np.repeat(sure.estimate(number, balls([1e3, 5e3]))[:, None], 4, axis=1))


def test_the_spread_of_size_and_of_relation():
    """log10 carbon has sd 3·b·size_sd/ln 10 by size, and the relation's own for all images at once."""
    number = np.full(2000, DINO_N)
    sized = model(draws=50, size_sd=0.05, relation_log10_sd=0.0)
    class_IK = np.full((2000, 50), DINO_N)
    logarithm = np.log10(sized.draw(keys(2000), class_IK, balls(np.full(2000, 1e3))))
    assert logarithm.std() == pytest.approx(3 * 0.819 * 0.05 / np.log(10), rel=0.02)
    assert logarithm.mean() == pytest.approx(np.log10(217.678), abs=1e-3)
    related = model(draws=2000, size_sd=0.0, relation_log10_sd=0.15)
    class_IK = np.full((3, 2000), DINO_N)
    logarithm = np.log10(related.draw(keys(3), class_IK, balls([1e3] * 3)))
    assert logarithm[0].std() == pytest.approx(0.15, rel=0.05)
    np.testing.assert_array_equal(logarithm[0], logarithm[2])  # it does not average out
    assert len(number) == 2000


def test_dry_weight_to_carbon_is_drawn_over_its_range():
    both = model(allow=True, draws=2000, size_sd=0.0, relation_log10_sd=0.0)
    draws = both.draw(keys(1), np.full((1, 2000), COPEPOD_N), CarbonSizes(np.array([1e9]), np.array([1e6])))
    share = draws / 45.25e6
    assert 0.4 <= share.min() < 0.405
    assert 0.495 < share.max() <= 0.5


@given(st.integers(0, 2**32), st.integers(1, 7))
@settings(max_examples=20, deadline=None)
def test_classes_are_drawn_by_their_scores(seed, classes):
    draw = np.random.default_rng(seed)
    scores = draw.dirichlet(np.full(classes, 0.5), 3).astype(np.float32)
    scores[0] = certain([classes - 1], classes)
    drawn = drawn_classes(scores, draw.random((3, 4000)))
    shares = np.stack([np.bincount(row, minlength=classes) for row in drawn]) / 4000
    assert (drawn[0] == classes - 1).all()
    np.testing.assert_allclose(shares, scores, atol=0.05)


def test_order_and_batch_make_no_difference():
    some = model(draws=16)
    key, scores = keys(9), np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), 9)
    number, sizes = scores.argmax(axis=1), balls(np.geomspace(1e2, 1e6, 9))
    whole = some.draw(key, some.draw_classes(key, number, scores), sizes)
    back = slice(None, None, -1)
    part = CarbonSizes(sizes.volume_um3_I[back], sizes.area_um2_I[back])
    np.testing.assert_array_equal(
        some.draw(key[back], some.draw_classes(key[back], number[back], scores[back]), part)[back], whole
    )
    for i in range(9):
        one = slice(i, i + 1)
        part = CarbonSizes(sizes.volume_um3_I[one], sizes.area_um2_I[one])
        alone = some.draw(key[one], some.draw_classes(key[one], number[one], scores[one]), part)
        np.testing.assert_array_equal(alone[0], whole[i])


@pytest.mark.parametrize(("name", "value"), [("draws", 0), ("size_sd", -0.1), ("relation_log10_sd", 5.0)])
def test_refuses_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        Uncertainty(**{name: value})
