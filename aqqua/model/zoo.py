"""Backbones by name, and what they cost."""

from typing import Any

from torch import nn

from aqqua.model.config import SIZES, ModelConfig
from aqqua.model.vit import VisionTransformer


def build(size: str, **fields: Any) -> VisionTransformer:
    """A backbone of a named size (tiny, small, base, large, giant) with freshly drawn weights.

    Args:
        size: a name of SIZES.
        fields: any other field of ModelConfig.

    Raises:
        ValueError: the name is unknown, or a field does not fit.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}; choose one or set the width")
    return VisionTransformer(ModelConfig(**{"size": size, **fields}))


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops_per_token(config: ModelConfig, view_tokens: float) -> float:
    """Floating-point operations of one forward pass per token, matrix products only.

    A product of m×k by k×n counts 2·m·k·n; a training step (forward, backward) is three times this.

    Args:
        config: the backbone.
        view_tokens: tokens of the token's own view, which it attends to (for a mix of views the mean
            weighted by tokens).
    """
    matrices = 3 if config.ffn == "swiglu" else 2
    per_layer = 8 * config.width**2 + 2 * matrices * config.width * config.ffn_width
    attention = 4 * config.width * view_tokens
    patch = 2 * config.patch_values * config.width * (view_tokens - config.prefix) / view_tokens
    return config.layers * (per_layer + attention) + patch
