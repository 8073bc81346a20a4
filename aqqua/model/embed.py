"""From patch rows to tokens: patch embedding, mask token, position, CLS with the view's scale, registers.

Order, as in DINOv2: embed the patches, put the mask token in place of masked ones, add the position,
put CLS and registers in front (registers get no position). Where Triton serves, all but the product of the
patch embedding is one pass over the tokens: aqqua.kernels.embed.

Letter key: T tokens, V views, N patch rows, F = P·P·C values of a patch row, D width, R prefix tokens.
Test: tests/model/test_vit.py, tests/model/test_embed_tokens.py.
"""

from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aqqua.kernels.choice import choose
from aqqua.kernels.embed import Packing, embed
from aqqua.model.config import ModelConfig
from aqqua.model.patch_kernel import resized_rows
from aqqua.model.position import FactorisedFractional, GsdSineCosine, LearnedGrid
from aqqua.model.sequences import Sequences

PREFIX_STD = 1e-6  # CLS and registers start near zero: dinov2/models/vision_transformer.py, init_weights


class ScaleEmbedding(nn.Module):
    """A view's µm/px as a vector: Fourier features of log2(µm/px) through a small MLP.

    Plankton imagers span 0.03 to 200 µm/px, 13 octaves; periods run from 32 octaves, which orders all
    of them, to a quarter octave, which tells 1.0 from 1.1. An unknown scale has its own learned vector.
    """

    FREQUENCIES = tuple(2.0**k / 32 for k in range(8))  # per octave

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(2 * len(self.FREQUENCIES), width)
        self.fc2 = nn.Linear(width, width)
        self.unknown = nn.Parameter(torch.empty(width))
        # On the device from the start: made anew in each pass it would be a copy that waits for the GPU.
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.tensor(self.FREQUENCIES), persistent=False)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        init_linear(self.fc1, generator)
        init_linear(self.fc2, generator)
        nn.init.trunc_normal_(self.unknown, std=0.02, generator=generator)

    def forward(self, um_per_px_V: Float[Tensor, " V"]) -> Float[Tensor, "V D"]:
        known_V = um_per_px_V.isfinite()
        octaves_V = torch.where(known_V, um_per_px_V, 1.0).log2()
        angles = 2 * pi * octaves_V[:, None] * self.frequencies
        features = torch.cat((angles.sin(), angles.cos()), dim=1).to(self.unknown.dtype)
        known_VD = self.fc2(nn.functional.gelu(self.fc1(features)))
        return torch.where(known_V[:, None], known_VD, self.unknown)


class TokenEmbedding(nn.Module):
    """Patch rows of a pack to its tokens; `backend` is 'auto' or a name of aqqua.kernels.choice.BACKENDS."""

    def __init__(self, config: ModelConfig, backend: str = "auto"):
        super().__init__()
        self.backend, self.patch_px, self.channels = backend, config.patch_px, config.channels
        self.patch_embed = nn.Linear(config.patch_values, config.width)
        # Of one channel; the bias is that of the other.
        grey = nn.Linear(config.patch_px**2, config.width, bias=False) if config.grey_embedding else None
        self.patch_embed_grey = grey
        self.cls_token = nn.Parameter(torch.empty(config.width))
        self.register_tokens = nn.Parameter(torch.empty(config.registers, config.width))
        self.mask_token = nn.Parameter(torch.empty(config.width))
        self.position = _position(config)
        self.scale = ScaleEmbedding(config.width) if config.scale_token else None

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """DINOv2's start. The patch embedding keeps a convolution's default, U(±1/√F), as it does there."""
        bound = self.patch_embed.in_features**-0.5
        nn.init.uniform_(self.patch_embed.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.patch_embed.bias, -bound, bound, generator=generator)
        if self.patch_embed_grey is not None:
            bound = self.patch_embed_grey.in_features**-0.5
            nn.init.uniform_(self.patch_embed_grey.weight, -bound, bound, generator=generator)
        nn.init.normal_(self.cls_token, std=PREFIX_STD, generator=generator)
        if len(self.register_tokens):
            nn.init.normal_(self.register_tokens, std=PREFIX_STD, generator=generator)
        nn.init.zeros_(self.mask_token)
        for part in (self.position, self.scale):
            if part is not None:
                part.init_weights(generator)

    def forward(
        self,
        patches_NF: Float[Tensor, "N F"],
        sequences: Sequences,
        mask_N: Bool[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "T D"]:
        """Tokens of the pack; the patches that mask_N marks show the mask token instead of themselves."""
        if choose("embed", patches_NF.device, self.cls_token.dtype, self.backend) == "triton":
            return self._in_one_pass(patches_NF, sequences, mask_N)
        # The residual stream is kept in the parameters' dtype, whatever autocast makes of the product.
        x_ND = self._product(patches_NF, sequences, self.patch_embed.bias).to(self.cls_token.dtype)
        if mask_N is not None:
            x_ND = torch.where(mask_N[:, None], self.mask_token, x_ND)
        if self.position is not None:
            x_ND = x_ND + self.position(sequences).to(x_ND.dtype)
        x_TD = x_ND.new_zeros(sequences.tokens, x_ND.shape[1])
        x_TD = x_TD.index_copy(0, sequences.patch_rows_N, x_ND)
        return x_TD.index_copy(0, sequences.prefix_rows_VR.flatten(), self._prefix(sequences).flatten(0, 1))

    def _in_one_pass(
        self, patches_NF: Float[Tensor, "N F"], sequences: Sequences, mask_N: Bool[Tensor, " N"] | None
    ) -> Float[Tensor, "T D"]:
        grids_V2 = sequences.grids_V2.int().to(sequences.device, non_blocking=True)
        packing = Packing(sequences.offsets_V1, sequences.view_T, grids_V2, sequences.prefix)
        return embed(
            self._product(patches_NF, sequences),
            packing,
            self.cls_token,
            self.register_tokens,
            bias_D=self.patch_embed.bias,
            mask_N=mask_N,
            mask_D=self.mask_token,
            scale_VD=None if self.scale is None else self.scale(sequences.um_per_px_V),
            position=None if self.position is None else self.position.placed(sequences),
            backend="triton",
        )

    def _product(
        self, patches_NF: Float[Tensor, "N F"], sequences: Sequences, bias_D: Tensor | None = None
    ) -> Float[Tensor, "N D"]:
        """Patch rows times the kernel for their side and channels."""
        sides = self.patch_px, sequences.patch_px
        linear = nn.functional.linear
        x_ND = linear(patches_NF, resized_rows(self.patch_embed.weight, *sides, self.channels), bias_D)
        if self.patch_embed_grey is None:
            return x_ND
        if sequences.grey_V is None:
            raise ValueError(
                "TokenEmbedding: a model with grey_embedding must know which views are grey, got no grey_V; "
                "give it to Sequences.from_grids"
            )
        # All rows go through both: to pick them out would wait for the GPU, and the blocks cost far more.
        grey_NG = patches_NF[:, :: self.channels]  # repeated, so the first channel is the image
        grey_ND = linear(grey_NG, resized_rows(self.patch_embed_grey.weight, *sides, 1), bias_D)
        return torch.where(sequences.grey_V[sequences.view_N, None], grey_ND, x_ND)

    def _prefix(self, sequences: Sequences) -> Float[Tensor, "V R D"]:
        cls_VD = self.cls_token.expand(sequences.views, -1)
        if self.scale is not None:
            cls_VD = cls_VD + self.scale(sequences.um_per_px_V).to(cls_VD.dtype)
        registers = self.register_tokens.expand(sequences.views, -1, -1)
        return torch.cat((cls_VD[:, None], registers), dim=1)


def _position(config: ModelConfig) -> LearnedGrid | FactorisedFractional | GsdSineCosine | None:
    if config.position == "learned":
        offset = config.position_interpolation == "offset"
        return LearnedGrid(config.position_grid, config.width, offset)
    if config.position == "factorised":
        return FactorisedFractional(config.position_grid, config.width)
    if config.position == "gsd":
        return GsdSineCosine(config.width, config.gsd_reference_um_per_px, config.patch_px)
    return None


def init_linear(layer: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Weights from a normal of 0.02 truncated at ±2, bias 0 (DINOv2 init_weights_vit_timm)."""
    nn.init.trunc_normal_(layer.weight, std=0.02, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
