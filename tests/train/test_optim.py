"""Optimizer: golden multipliers, groups, clipping per sub-module, float32 teacher."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig, PrototypeHead
from aqqua.model.vit import VisionTransformer
from aqqua.train.optim import (
    OptimConfig,
    apply_schedules,
    clip_gradients,
    ema_update,
    layer_of,
    make_optimizer,
    multipliers,
    parameter_groups,
)

CONFIG = OptimConfig(layer_decay=0.9, patch_embed_lr=0.2)

GOLDEN = {
    "cls_token": (0.25419, 1),
    "pos_embed": (0.25419, 1),
    "position.rows": (0.25419, 1),
    "mask_token": (0.25419, 1),
    "registers": (0.25419, 1),
    "register_tokens": (0.25419, 1),
    "scale_token.unknown": (0.25419, 1),
    "patch_embed.proj.weight": (0.05084, 1),
    "patch_embed.proj.bias": (0.05084, 0),
    "blocks.0.attn.qkv.weight": (0.28243, 1),
    "blocks.3.ls1.gamma": (0.9**9, 0),
    "blocks.11.mlp.fc2.bias": (0.9, 0),
    "blocks.11.norm2.weight": (0.9, 0),
    "norm.weight": (1.0, 0),
    "dino_head.mlp.0.weight": (1.0, 1),
    "dino_head.mlp.0.bias": (1.0, 0),
    "ibot_head.last_layer.parametrizations.weight.original0": (1.0, 1),
}


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.student.backbone."])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_multipliers(prefix, name):
    assert multipliers(prefix + name, 12, CONFIG) == pytest.approx(GOLDEN[name], abs=5e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("decoder.weight", "got decoder.weight; name it so"),
        ("blocks.12.norm1.weight", "under 12, got blocks.12"),
    ],
)
def test_an_unknown_name_is_an_error_not_a_guess(name, message):
    with pytest.raises(ValueError, match=message):
        layer_of(name, 12)


@pytest.mark.parametrize("position", ["learned", "factorised", "gsd", "rope", "rope_physical", "none"])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_every_parameter_of_the_model_has_a_place(position, ffn):
    config = ModelConfig(size="tiny", width=24, heads=3, layers=2, position=position, ffn=ffn)
    head = PrototypeHead(HeadConfig(prototypes=8, hidden=4, bottleneck=4), 24)
    model = nn.ModuleDict({"backbone": VisionTransformer(config), "dino_head": head})
    seen = {name: multipliers(name, 2, CONFIG) for name, _ in model.named_parameters()}
    assert seen["backbone.norm.weight"] == (1.0, 0.0)
    assert seen["dino_head.last_layer.weight_v"] == (1.0, 1.0)
    for name, (lr, decay) in seen.items():
        # What makes the tokens is layer 0; one number per channel of a block or norm does not decay.
        assert (lr <= CONFIG.layer_decay**3) == (".embed." in name)
        assert (decay == 0) == (name.endswith(("bias", "gamma")) or "norm" in name)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(4)
        self.fc = nn.Linear(4, 4)
        self.gamma = nn.Parameter(torch.full((4,), 1e-5))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 4))
        self.patch_embed = nn.Linear(6, 4)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(4)
        self.dino_head = nn.ModuleDict({"mlp": nn.Linear(4, 3), "last_layer": nn.Linear(3, 8, bias=False)})


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Student()


def test_groups_hold_every_trainable_parameter_once(student):
    student.blocks[1].fc.weight.requires_grad_(False)
    groups = parameter_groups(student, 2, CONFIG)
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(n for n, p in student.named_parameters() if p.requires_grad)
    keys = [(g["lr_multiplier"], g["weight_decay_multiplier"], g["is_last_layer"]) for g in groups]
    assert len(set(keys)) == len(keys)  # fused
    by_name = dict(student.named_parameters())
    for group in groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert parameter is by_name[name]
            assert (group["lr_multiplier"], group["weight_decay_multiplier"]) == multipliers(name, 2, CONFIG)
    assert [group["names"] for group in groups if group["is_last_layer"]] == [["dino_head.last_layer.weight"]]


def test_apply_schedules(student):
    optimizer = make_optimizer(parameter_groups(student, 2, CONFIG), CONFIG)
    apply_schedules(optimizer, lr=1e-3, weight_decay=0.1, last_layer_lr=0.0)
    seen = {name: group for group in optimizer.param_groups for name in group["names"]}
    assert seen["cls_token"]["lr"] == pytest.approx(1e-3 * 0.9**3)
    assert seen["cls_token"]["weight_decay"] == 0.1
    assert seen["blocks.1.gamma"]["lr"] == pytest.approx(1e-3 * 0.9)
    assert seen["blocks.1.gamma"]["weight_decay"] == 0.0
    assert seen["dino_head.last_layer.weight"]["lr"] == 0.0
    assert seen["dino_head.mlp.weight"]["lr"] == 1e-3


def test_frozen_last_layer_stays_while_its_moments_move(student):
    optimizer = make_optimizer(parameter_groups(student, 2, CONFIG), CONFIG)
    before = copy.deepcopy(student.state_dict())
    apply_schedules(optimizer, lr=1e-3, weight_decay=0.4, last_layer_lr=0.0)
    sum(parameter.square().sum() for parameter in student.parameters()).backward()
    optimizer.step()
    frozen = student.dino_head["last_layer"].weight
    assert torch.equal(frozen, before["dino_head.last_layer.weight"])
    assert optimizer.state[frozen]["exp_avg"].abs().sum() > 0
    assert not torch.equal(student.cls_token, before["cls_token"])


def test_learning_rate_rules():
    at_4096 = {
        r: OptimConfig(lr=5e-5, lr_rule=r).learning_rate(100, 4096).base for r in ("sqrt1024", "v3x4", "none")
    }
    assert at_4096 == pytest.approx({"sqrt1024": 1e-4, "v3x4": 4e-4, "none": 5e-5})


def test_schedules_of_the_config():
    config = OptimConfig(lr=1e-3, min_lr=1e-6, lr_rule="none")
    rate, last = config.learning_rate(100, 64), config.last_layer_learning_rate(100, 64)
    assert (rate.at(5), rate.at(55)) == pytest.approx((5.555556e-4, 5.005e-4), rel=1e-6)
    assert last.at(0) == 0.0
    assert last.at(1) == rate.at(1) > 0
    v3 = OptimConfig(lr=1e-3, min_lr=1e-6, lr_rule="none", lr_decay="v3").learning_rate(100, 64)
    assert (v3.at(55), v3.at(99)) == pytest.approx((4.916846e-4, 1e-6), rel=1e-6)
    constant = OptimConfig(lr=1e-3, lr_rule="none", lr_decay="constant").learning_rate(100, 64)
    assert constant.at(10) == constant.at(99) == constant.at(1000) == 1e-3
    decay = config.weight_decay(100)
    assert (decay.at(0), decay.at(50), decay.at(100)) == pytest.approx((0.04, 0.22, 0.4))


def test_config_refuses_unknown_and_out_of_range():
    with pytest.raises(ValidationError, match="learning_rat"):
        OptimConfig.model_validate({"learning_rat": 1e-3})
    with pytest.raises(ValidationError, match="layer_decay"):
        OptimConfig(layer_decay=1.1)
    assert OptimConfig(clip_grad=math.inf).clip_grad == math.inf


def test_clipping_is_per_sub_module(student):
    sum((100 * p).square().sum() for p in student.blocks.parameters()).backward()
    (1e-3 * student.norm.weight.sum()).backward()
    want = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in student.blocks.parameters()])).item()
    small = student.norm.weight.grad.clone()
    modules = {"blocks": student.blocks, "norm": student.norm, "dino_head": student.dino_head}
    norms = clip_gradients(modules, 3.0)
    assert norms == pytest.approx({"blocks": want, "norm": 2e-3, "dino_head": 0.0})
    assert clip_gradients(modules, math.inf)["blocks"] == pytest.approx(3.0, rel=1e-5)
    assert torch.equal(student.norm.weight.grad, small)


def test_clipping_equals_torch(student):
    student.blocks[0].fc(torch.randn(5, 4) * 50).square().sum().backward()
    other = copy.deepcopy(student)
    for mine, theirs in zip(student.parameters(), other.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    clip_gradients({"student": student}, 1.0)
    nn.utils.clip_grad_norm_(other.parameters(), 1.0)
    assert torch.equal(student.blocks[0].fc.weight.grad, other.blocks[0].fc.weight.grad)


def test_clipping_bfloat16_sums_in_float32_and_shows_nan():
    layer = nn.Linear(300, 300, bias=False).bfloat16()
    layer.weight.grad = torch.full_like(layer.weight, 1.0)
    assert clip_gradients({"layer": layer}, math.inf)["layer"] == pytest.approx(300.0, rel=1e-5)
    layer.weight.grad[0, 0] = torch.nan
    assert math.isnan(clip_gradients({"layer": layer}, 3.0)["layer"])
    assert clip_gradients({}, 3.0) == {}


def test_teacher_follows_in_float32(student):
    teacher = copy.deepcopy(student)
    for parameter in student.parameters():
        parameter.data += 1e-3
    student.bfloat16()
    want = {
        name: 0.999 * t.double() + 0.001 * dict(student.named_parameters())[name].double()
        for name, t in teacher.named_parameters()
    }
    ema_update(teacher, student, 0.999)
    for name, parameter in teacher.named_parameters():
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter.double(), want[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_teacher_at_the_ends_is_exact(student, momentum):
    teacher = copy.deepcopy(student)
    before = copy.deepcopy(teacher.state_dict())
    for parameter in student.parameters():
        parameter.data += torch.randn_like(parameter)
    ema_update(teacher, student, momentum)
    want = before if momentum == 1.0 else student.state_dict()
    assert all(torch.equal(value, want[name]) for name, value in teacher.state_dict().items())


def test_teacher_errors(student):
    teacher = copy.deepcopy(student)
    with pytest.raises(ValueError, match=r"within \[0, 1\], got 1.5"):
        ema_update(teacher, student, 1.5)
    with pytest.raises(ValueError, match=r"got \['bias', .*in only one of them"):
        ema_update(teacher.norm, student, 0.9)
    with pytest.raises(ValueError, match=r"must be float32, got torch\.bfloat16 in cls_token"):
        ema_update(teacher.bfloat16(), student, 0.9)
