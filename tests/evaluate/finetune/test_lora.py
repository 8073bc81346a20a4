"""LoRA: nothing changes at the start, only updates learn, and what is merged is what was run."""

import copy

import pytest
import torch

from aqqua.evaluate.finetune.config import LoraConfig
from aqqua.evaluate.finetune.lora import add_lora, merge_lora
from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer

CONFIG = LoraConfig(rank=3, alpha=6)


def backbone(ffn: str = "mlp") -> VisionTransformer:
    torch.manual_seed(1)
    config = ModelConfig(width=32, layers=2, heads=2, patch_px=4, ffn=ffn, drop_path=0, layer_scale=1.0)
    return VisionTransformer(config).eval()


def cls(model: VisionTransformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    grids = torch.tensor([[2, 3], [4, 4], [1, 1]])
    sequences = Sequences.from_grids(grids, torch.tensor([1.0, float("nan"), 3.0]), 4, model.config.prefix)
    return model(torch.randn(23, 16, generator=generator), sequences).cls_VD


def shake(model: VisionTransformer) -> None:
    """Give every update a value, as learning would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_b" in name:
                p.normal_(std=0.2, generator=generator)


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_at_the_start_it_is_the_backbone_and_afterwards_not(ffn):
    model = backbone(ffn)
    before = cls(model)
    add_lora(model, CONFIG, seed=0)
    assert torch.equal(cls(model), before)
    shake(model)
    assert (cls(model) - before).abs().max() > 0.05


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("layers", ["attention", "mlp", "all"])
def test_merged_it_is_the_same_function_under_the_plain_names(ffn, layers):
    model = backbone(ffn)
    names = set(model.state_dict())
    add_lora(model, CONFIG.model_copy(update={"layers": layers}), seed=0)
    shake(model)
    shown = cls(model)
    merge_lora(model)
    assert set(model.state_dict()) == names
    assert (cls(model) - shown).abs().max() <= 1e-6
    assert all(p.requires_grad for p in model.parameters())


def test_a_merged_weight_is_w_plus_b_a_times_alpha_over_rank():
    model = backbone()
    start = copy.deepcopy(model.state_dict())
    add_lora(model, CONFIG, seed=0)
    shake(model)
    update = model.blocks[1].mlp.fc1.parametrizations.weight[0]
    wanted = start["blocks.1.mlp.fc1.weight"] + 6 / 3 * update.lora_b @ update.lora_a
    merge_lora(model)
    torch.testing.assert_close(model.state_dict()["blocks.1.mlp.fc1.weight"], wanted)
    for name in ("embed.patch_embed.weight", "norm.weight", "blocks.0.ls1.gamma", "blocks.0.attn.qkv.bias"):
        assert torch.equal(model.state_dict()[name], start[name]), name


@pytest.mark.parametrize(
    ("layers", "count"), [("attention", 2 * (4 + 2)), ("mlp", 2 * (5 + 5)), ("all", 2 * (4 + 2 + 5 + 5))]
)
def test_only_updates_learn(layers, count):
    """Of a layer from D to O, rank · (D + O) numbers; all but the scale's MLP, which is in no block."""
    model = backbone()
    add_lora(model, CONFIG.model_copy(update={"layers": layers}), seed=0)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name and name.startswith("blocks.") for name in learning)
    assert sum(p.numel() for p in learning.values()) == 3 * 32 * count
    cls(model).square().sum().backward()
    assert all(p.grad is not None for p in learning.values())
    assert all(p.grad is None for name, p in model.named_parameters() if name not in learning)


def test_the_seed_draws_the_start():
    models = [backbone() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        add_lora(model, CONFIG, seed)
    name = "blocks.0.attn.qkv.parametrizations.weight.0.lora_a"
    a, b, c = (dict(model.named_parameters())[name] for model in models)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_rank_beyond_the_layer_is_refused():
    with pytest.raises(ValueError, match=r"at most 32 in 0\.attn\.qkv, got 33; lower lora\.rank"):
        add_lora(backbone(), CONFIG.model_copy(update={"rank": 33}), seed=0)
