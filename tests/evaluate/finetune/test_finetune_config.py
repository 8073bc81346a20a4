"""The config of fine-tuning: every field is read, unknown ones fail."""

from pathlib import Path

import pytest

import aqqua
from aqqua.config import ConfigError, keys, load_config
from aqqua.evaluate.finetune.config import FinetuneConfig, FinetuneOptim

SOURCES = Path(aqqua.__file__).parent


def test_every_field_is_read_somewhere():
    files = (SOURCES / "evaluate" / "finetune").glob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    unread = [key for key in keys(FinetuneConfig) if f".{key.rpartition('.')[2]}" not in text]
    assert unread == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epoch=3", "did you mean epochs"),
        ("lora.rank=0", "lora.rank"),
        ("mode=partial", "'frozen', 'lora' or 'full'"),
        ("validation_share=1", "validation_share"),
        ("optim.lr=1", "did you mean optim"),
    ],
)
def test_mistakes_are_named(override, said):
    with pytest.raises(ConfigError, match=said):
        load_config(FinetuneConfig, None, [override])


def test_the_groups_of_parameters_know_no_scaling_rule_and_no_frozen_layer():
    known = FinetuneOptim(backbone_lr=3e-4, weight_decay=0.1).groups()
    assert known.learning_rate(100.0, 4096.0).at(10.0) == pytest.approx(3e-4, rel=1e-2)
    last_layer = known.last_layer_learning_rate(100.0, 4096.0)
    assert last_layer.at(0.5) == known.learning_rate(100.0, 4096.0).at(0.5)
    assert known.weight_decay(100.0).at(0.0) == known.weight_decay(100.0).at(99.0) == pytest.approx(0.1)
