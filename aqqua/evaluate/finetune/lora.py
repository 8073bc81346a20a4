"""LoRA: each linear layer of the blocks learns an update of low rank beside its frozen weight.

W' = W + (alpha / rank) · B · A, A drawn, B zero at the start, so the first forward is the backbone's own. It
is put on as a parametrisation of `weight` and not as a layer around it: our fused kernels read `fc2.weight`
themselves, and what is merged in the end is the very tensor that every forward used. peft does not know our
packed blocks and would wrap the layers' forward, hence this page.

Letters: O outputs, D inputs, R rank. Test: tests/evaluate/finetune/test_lora.py.
Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from aqqua.evaluate.finetune.config import LoraConfig
from aqqua.model.vit import VisionTransformer

_LAYERS = {
    "attention": ("qkv", "proj"),
    "mlp": ("fc1", "fc2", "w12", "w3"),
    "all": ("qkv", "proj", "fc1", "fc2", "w12", "w3"),
}


class LowRankUpdate(nn.Module):
    """Adds B · A, scaled, to the weight it is put on."""

    def __init__(self, weight_OD: Tensor, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight_OD.shape
        self.gain = config.alpha / config.rank
        # He et al. 2015 with a = √5, as in the authors' loralib: uniform within ±1/√D.
        bound = 1 / math.sqrt(inputs)
        drawn_RD = torch.empty(config.rank, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(drawn_RD.to(weight_OD))
        self.lora_b = nn.Parameter(torch.zeros(outputs, config.rank).to(weight_OD))

    def forward(self, weight_OD: Float[Tensor, "O D"]) -> Float[Tensor, "O D"]:
        return weight_OD + self.gain * (self.lora_b @ self.lora_a)


def add_lora(backbone: VisionTransformer, config: LoraConfig, seed: int) -> None:
    """Freeze the backbone and give the linear layers of its blocks their updates, in place.

    Raises:
        ValueError: the rank is above what a layer can have.
    """
    backbone.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, layer in _linear_layers(backbone, config):
        if config.rank > (most := min(layer.weight.shape)):
            raise ValueError(
                f"lora: rank must be at most {most} in {name}, got {config.rank}; lower lora.rank"
            )
        update = LowRankUpdate(layer.weight, config, generator)
        parametrize.register_parametrization(layer, "weight", update)


def merge_lora(backbone: VisionTransformer) -> None:
    """Put every update into its weight, in place: the same function as before, the plain names again."""
    for module in backbone.modules():
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    backbone.requires_grad_(True)


def _linear_layers(backbone: VisionTransformer, config: LoraConfig) -> list[tuple[str, nn.Linear]]:
    wanted = _LAYERS[config.layers]
    return [
        (name, module)
        for name, module in backbone.blocks.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in wanted
    ]
