import pytest
import torch

from aqqua.cost.parameters import block_parameters, network_parameters
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig, SelfSupervised

PLAIN_IBOT = {"prototypes": 300, "hidden": 96, "bottleneck": 32, "last_layer": "plain"}


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large", "giant"])
@pytest.mark.parametrize("ibot_head", [None, PLAIN_IBOT], ids=["shared head", "iBOT head"])
def test_those_of_the_built_module(size, ibot_head):
    model = ModelConfig(size=size)
    objective = ObjectiveConfig.model_validate({"ibot_head": ibot_head})
    with torch.device("meta"):
        student = SelfSupervised(model, objective).student
    counted = network_parameters(model, objective)
    parts = dict(student.named_children())
    of = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.items()}
    assert counted.backbone == of["backbone"]
    assert counted.dino_head == of["dino_head"]
    assert counted.ibot_head == of.get("ibot_head", 0)
    assert 4 * counted.total == sum(p.numel() * p.itemsize for p in student.parameters())
    assert counted.block == sum(p.numel() for p in student.backbone.blocks[0].parameters())
    assert counted.largest == max(counted.block, counted.dino_head)


@pytest.mark.parametrize("position", ["learned", "factorised", "gsd", "rope", "rope_physical", "none"])
@pytest.mark.parametrize("scale_token", [True, False])
def test_of_every_position_and_scale(position, scale_token):
    model = ModelConfig(
        width=64,
        layers=3,
        heads=2,
        position=position,
        scale_token=scale_token,
        registers=2,
        channels=3,
        patch_px=8,
    )
    with torch.device("meta"):
        student = SelfSupervised(model, ObjectiveConfig()).student
    counted = network_parameters(model, ObjectiveConfig())
    assert counted.backbone == sum(p.numel() for p in student.backbone.parameters())


def test_guides():
    guides = [{"field": "region"}, {"field": "instrument", "names": ["A", "B", "C"], "hidden": 9}]
    objective = ObjectiveConfig.model_validate({"guides": guides})
    student = SelfSupervised(ModelConfig(size="tiny"), objective).student
    counted = network_parameters(ModelConfig(size="tiny"), objective)
    assert counted.guide_head == sum(p.numel() for p in student.guide_head.parameters())
    assert counted.total == sum(p.numel() for p in student.parameters())


def test_a_block_by_hand():
    # qkv 2·6 + 6, proj 2·2 + 2, fc1 2·8 + 8, fc2 8·2 + 2, norms 2 · 2·2, LayerScale 2·2, at D = 2.
    model = ModelConfig.model_construct(**{**ModelConfig().model_dump(), "width": 2, "ffn": "mlp"})
    assert block_parameters(model) == 18 + 6 + 24 + 18 + 8 + 4
