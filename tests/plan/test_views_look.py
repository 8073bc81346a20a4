"""How views look, from their numbers: blur, light, noise, and what becomes of the background."""

import numpy as np
import pytest
from made_sizes import sizes
from made_views import CALM, plan

from aqqua.plan.footprint import footprint_sigma
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import NO_FOLD, whole_views


@pytest.mark.parametrize(("blur", "odds"), [("paper", (1.0, 0.1)), ("released", (0.0, 0.9))])
def test_blur_odds_are_those_of_the_paper_or_of_the_released_weights(blur, odds):
    config = CALM.model_copy(update={"blur": blur})
    sigma = plan(np.full(3000, 100), np.full(3000, 100), config).sigma_IS
    measured = (sigma > 0).mean(axis=0)
    assert measured[0] == odds[0]
    assert measured[1] == pytest.approx(odds[1], abs=0.02)
    np.testing.assert_allclose(measured[2:], 0.5, atol=0.04)
    blurred = sigma[:, 1:][sigma[:, 1:] > 0]
    assert blurred.min() == pytest.approx(0.1, abs=0.02)
    assert blurred.max() == pytest.approx(2, abs=0.02)


def test_photometric_odds_and_ranges():
    config = ViewConfig()
    views = plan(np.full(4000, 100), np.full(4000, 100), config)
    inverted = (views.scale_IS < 0).mean(axis=0)
    assert inverted[0] == 0
    assert inverted[1] == pytest.approx(0.2, abs=0.03)
    assert (inverted[2:] == 0).all()
    gain = np.abs(views.scale_IS) * config.std
    assert ((gain >= 0.6 - 1e-6) & (gain <= 1.4 + 1e-6)).all()
    assert np.isclose(gain, 1).mean() == pytest.approx(0.2, abs=0.02)
    noise = views.noise_IS * config.std
    assert 0 <= noise.min() < 0.001
    assert 0.019 < noise.max() <= 0.02


@pytest.mark.parametrize(("bits", "full"), [(8, 255), (16, 65535)])
@pytest.mark.parametrize("background", [0, 130])
def test_a_background_pixel_becomes_its_offset_alone(bits, full, background):
    known = {"background": background, "bits": bits}
    config = ViewConfig()
    views = plan([100] * 300, [90] * 300, config, **known)
    grey = views.scale_IS[..., None] * np.float32(background / full) + views.bias_ISC
    assert np.abs(grey * config.std).max() <= 0.1 + 1e-5
    assert np.abs(grey * config.std).max() > 0.09
    np.testing.assert_allclose(grey[np.isclose(np.abs(views.scale_IS) * config.std, 1)], 0, atol=1e-5)

    kept = config.model_copy(update={"subtract_background": False, "photometric_odds": 0.0})
    views = plan([100] * 300, [90] * 300, kept, **known)
    grey = views.scale_IS[..., None] * np.float32(background / full) + views.bias_ISC
    np.testing.assert_allclose(grey, (background / full - kept.mean) / kept.std, atol=1e-5)

    whole = whole_views(sizes(100, 90, **known), 8, 256, 16, config)
    np.testing.assert_allclose(whole.scale_IS[..., None] * (background / full) + whole.bias_ISC, 0, atol=1e-5)
    np.testing.assert_allclose(whole.scale_IS, 1 / config.std)


def test_a_reduced_pixel_is_blurred_to_its_own_footprint():
    sigma = footprint_sigma(np.zeros(3), np.array([1.0, 2.0, 0.5]))
    assert sigma.tolist() == [0, 0, pytest.approx(0.5 * np.sqrt(3))]
    assert footprint_sigma(np.full(1, 2.0), np.full(1, 0.5)) == pytest.approx(np.sqrt(0.75 + 16))


@pytest.mark.parametrize("subtract_background", [True, False])
@pytest.mark.parametrize("invert", [0, 1])
def test_solarizing_mirrors_the_lit_level_at_one_half(subtract_background, invert):
    """Worked out on levels in [0, 1], in DINOv2's order: gain and polarity, solarize, normalise."""
    config = ViewConfig(
        solarize_odds=(1, 0.5), invert_odds=(invert, invert), photometric_odds=1, noise=(0, 0), mean=0.3,
        subtract_background=subtract_background,
    )  # fmt: skip
    views, background = plan([80] * 400, [90] * 400, config, background=130), np.float64(130 / 255)
    folds = views.fold_ISC[..., 0] < NO_FOLD
    assert folds[:, 0].all()
    assert folds[:, 1].mean() == pytest.approx(0.5, abs=0.1)
    assert not folds[:, 2:].any()

    zero = background if subtract_background else config.mean
    gain = views.scale_IS[:, 0].astype(np.float64) * config.std
    offset = views.bias_ISC[:, 0, 0] * config.std + gain * background - (background - zero)
    level = np.linspace(0, 1, 21)
    lit = background + gain[:, None] * (level - background) + offset[:, None]
    want = (np.where(lit < 0.5, lit, 1 - lit) - zero) / config.std
    value = views.scale_IS[:, :1] * level + views.bias_ISC[:, 0, :1]
    np.testing.assert_allclose(np.minimum(value, views.fold_ISC[:, 0, :1] - value), want, atol=1e-5)


def test_a_whole_view_has_no_specks_its_own_colour_and_no_fold():
    config = ViewConfig(specks=8, solarize_odds=(1, 1), grey_odds=1)
    whole = whole_views(sizes(100, 90), 8, 256, 16, config)
    assert whole.speck_ISK4.shape == (1, 1, 0, 4)
    assert np.array_equal(whole.colour_IS33[0, 0], np.eye(3))
    assert (whole.fold_ISC >= NO_FOLD).all()
