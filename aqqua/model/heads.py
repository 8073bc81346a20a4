"""The projection head of DINO and iBOT: tokens to logits over K prototypes.

Letter key: B rows, D width, Z bottleneck width, K prototypes. Test: tests/model/test_heads.py.
Source: dinov2/layers/dino_head.py; dinov3/layers/dino_head.py (plain last layer).
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from aqqua.model.embed import init_linear


class HeadConfig(BaseModel):
    """A DINO or iBOT head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prototypes: int = Field(
        default=65_536, ge=2, description="K (DINOv2: 65 536 short runs, 131 072 ViT-L and g)"
    )
    hidden: int = Field(default=2048, ge=1, description="width of the two hidden layers (DINOv2: 2048)")
    bottleneck: int = Field(
        default=256, ge=1, description="width of the normalised output (DINOv2: 256; 384 for DINO at L, g)"
    )
    last_layer: Literal["weight_norm", "plain"] = Field(
        default="weight_norm", description="unit prototypes with a trained gain (DINOv2), or plain (DINOv3)"
    )


class WeightNormPrototypes(nn.Module):
    """Prototypes of unit length times a trained gain each: DINOv2's weight-normed linear layer."""

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(config.prototypes, config.bottleneck))
        self.weight_g = nn.Parameter(torch.empty(config.prototypes, 1))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        bound = self.weight_v.shape[1] ** -0.5
        nn.init.uniform_(self.weight_v, -bound, bound, generator=generator)
        nn.init.ones_(self.weight_g)

    def matrix(self) -> Float[Tensor, "K Z"]:
        """The effective prototypes: logits are bottleneck rows times their transpose."""
        return self.weight_v * (self.weight_g / self.weight_v.norm(dim=1, keepdim=True))

    def forward(self, x_BZ: Float[Tensor, "B Z"]) -> Float[Tensor, "B K"]:
        return linear(x_BZ, self.matrix())


class PlainPrototypes(nn.Module):
    """Free prototypes: DINOv3's linear layer without bias."""

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.prototypes, config.bottleneck))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02, generator=generator)

    def matrix(self) -> Float[Tensor, "K Z"]:
        """The effective prototypes: logits are bottleneck rows times their transpose."""
        return self.weight

    def forward(self, x_BZ: Float[Tensor, "B Z"]) -> Float[Tensor, "B K"]:
        return linear(x_BZ, self.weight)


class PrototypeHead(nn.Module):
    """Three-layer MLP to a normalised bottleneck, then prototypes.

    `bottleneck` and `last_layer.matrix` stand apart so that a fused kernel can take over the
    product with the prototypes and never hold the [B, K] logits. Prototype parameters are named
    last_layer.*, which the schedule freezes at the start.
    """

    def __init__(self, config: HeadConfig, width: int, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.last_layer: WeightNormPrototypes | PlainPrototypes = (
            WeightNormPrototypes(config) if config.last_layer == "weight_norm" else PlainPrototypes(config)
        )
        self.init_weights(generator)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                init_linear(layer, generator)
        self.last_layer.init_weights(generator)

    def bottleneck(self, x_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B Z"]:
        """Rows of unit length. The floor of the norm is 1e-12, in float16, which has none, 1e-6."""
        x_BZ = self.mlp(x_BD)
        return normalize(x_BZ, dim=-1, eps=1e-6 if x_BZ.dtype == torch.float16 else 1e-12)

    def forward(self, x_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.last_layer(self.bottleneck(x_BD))
