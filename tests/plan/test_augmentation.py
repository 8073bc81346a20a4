"""Named sets: they fill in what is not given, explicit settings win, a printed config is the same again."""

import numpy as np
import pytest
from made_views import plan
from pydantic import ValidationError

from aqqua.config import load_config, to_yaml
from aqqua.plan.augmentation import AUGMENTATIONS
from aqqua.plan.view_config import ViewConfig
from aqqua.train.settings import PretrainConfig

GIVEN = ["run=r", "data.path=d", "train.epochs=1"]


def test_plankton_is_what_the_fields_say_themselves():
    assert ViewConfig(augmentation="plankton") == ViewConfig()
    fields = ViewConfig.model_fields.items()
    assert {name: getattr(ViewConfig(), name) for name, _ in fields} == {n: f.default for n, f in fields}


def test_dinov2_is_that_of_its_source():
    config = ViewConfig(augmentation="dinov2")
    assert (config.geometry, config.rotate, config.flip) == ("square", False, True)
    assert (config.global_area, config.local_area, config.aspect) == ((0.32, 1), (0.05, 0.32), (3 / 4, 4 / 3))
    assert config.max_tokens == (16**2, 7**2)
    assert (config.saturation, config.hue, config.grey_odds) == ((0.8, 1.2), (-0.1, 0.1), 0.2)
    assert (config.photometric_odds, config.solarize_odds) == (0.8, (0, 0.2))
    assert (config.invert_odds, config.noise, config.specks) == ((0, 0), (0, 0), 0)
    assert not config.subtract_background
    assert not config.organism_aware
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (config.mean, config.std) == tuple(pytest.approx(np.mean(three)) for three in imagenet)


def test_every_value_of_a_set_is_a_field_and_allowed():
    for name, values in AUGMENTATIONS.items():
        assert values.keys() <= ViewConfig.model_fields.keys() - {"augmentation"}
        config = ViewConfig(augmentation=name)
        assert {key: getattr(config, key) for key in values} == dict(values)


def test_an_explicit_setting_wins_even_where_it_is_a_default():
    config = ViewConfig(augmentation="dinov2", rotate=True, gain=(1, 1), locals=2)
    assert (config.rotate, config.gain, config.locals) == (True, (1, 1), 2)
    assert config.geometry == "square"


def test_a_set_may_be_named_on_the_command_line_and_a_printed_config_comes_back(tmp_path):
    config = load_config(PretrainConfig, None, [*GIVEN, "views.augmentation=dinov2", "views.rotate=true"])
    assert config.views == ViewConfig(augmentation="dinov2", rotate=True)
    (tmp_path / "run.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert "solarize_odds" in to_yaml(config)  # what the set filled in is shown
    assert load_config(PretrainConfig, tmp_path / "run.yaml") == config
    assert ViewConfig.model_validate_json(config.views.model_dump_json()) == config.views
    # A printed config is all explicit: to name another set changes nothing but the name.
    other = load_config(PretrainConfig, tmp_path / "run.yaml", ["views.augmentation=plankton"])
    assert other.views == config.views.model_copy(update={"augmentation": "plankton"})


@pytest.mark.parametrize("name", ["dino", ["dinov2"], None, {}])
def test_an_unknown_set_is_refused(name):
    with pytest.raises(ValidationError, match="Input should be 'plankton' or 'dinov2'"):
        ViewConfig(augmentation=name)


def test_half_of_the_upright_views_are_mirrored_and_none_without_flip():
    for flip, share in ((True, 0.5), (False, 0)):
        linear = plan([90] * 800, [120] * 800, ViewConfig(rotate=False, flip=flip)).map_IS23[..., :2]
        np.testing.assert_array_equal(linear[..., 0, 1], 0)
        assert (np.linalg.det(linear) < 0).mean() == pytest.approx(share, abs=0.02)
        assert (linear[..., 1, 1] > 0).all()  # never upside down
