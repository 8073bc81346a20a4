"""The backbone: a pre-norm vision transformer on packed views.

All views of a pack, of any grids, go through as one [T, D] tensor; only attention knows where a view
begins and ends. The model draws nothing at random: masks, hidden scales and the scores of stochastic
depth come from the plan.

Letter key: T tokens, V views, N patch rows, F values of a patch row, D width, H heads, E head width,
L layers, R registers. Test: tests/model/test_vit.py.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aqqua.kernels.attention import varlen_attention
from aqqua.model.config import ModelConfig
from aqqua.model.embed import TokenEmbedding, init_linear
from aqqua.model.rotary import Rotary, rotary_tables
from aqqua.model.sequences import Sequences

NORM_EPS = 1e-6  # dinov2/models/vision_transformer.py


@dataclass(frozen=True, eq=False)
class Features:
    """What the backbone says of a pack, after the final norm."""

    cls_VD: Float[Tensor, "V D"]
    registers_VRD: Float[Tensor, "V R D"]
    patches_ND: Float[Tensor, "N D"]


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch, small at first."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.start = start
        self.gamma = nn.Parameter(torch.empty(width))

    def init_weights(self) -> None:
        nn.init.constant_(self.gamma, self.start)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention inside each view."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = config.heads
        self.backend: str = config.attention
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        init_linear(self.qkv, generator)
        init_linear(self.proj, generator)

    def forward(
        self, x_TD: Float[Tensor, "T D"], sequences: Sequences, rotary: Rotary | None
    ) -> Float[Tensor, "T D"]:
        q_THE, k_THE, v_THE = self.qkv(x_TD).unflatten(1, (3, self.heads, -1)).unbind(1)
        if rotary is not None:
            q_THE, k_THE = rotary.turn(q_THE), rotary.turn(k_THE)
        packing = (sequences.offsets_V1, sequences.lengths, sequences.max_length)
        o_THE = varlen_attention(q_THE, k_THE, v_THE, *packing, backend=self.backend)
        return self.proj(o_THE.flatten(1))


class Mlp(nn.Module):
    """Feed-forward with GELU."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.ffn_width)
        self.fc2 = nn.Linear(config.ffn_width, config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        init_linear(self.fc1, generator)
        init_linear(self.fc2, generator)

    def forward(self, x_TD: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        return self.fc2(nn.functional.gelu(self.fc1(x_TD)))


class SwiGlu(nn.Module):
    """Feed-forward with a gate: w3(silu(gate) · up), gate and up from one matrix (DINOv2 giant)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.w12 = nn.Linear(config.width, 2 * config.ffn_width)
        self.w3 = nn.Linear(config.ffn_width, config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        init_linear(self.w12, generator)
        init_linear(self.w3, generator)

    def forward(self, x_TD: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        gate, up = self.w12(x_TD).chunk(2, dim=-1)
        return self.w3(nn.functional.silu(gate) * up)


def kept_views(scores_V: Float[Tensor, " V"], rate: float) -> Int[Tensor, " S"]:
    """Views that go through a residual branch: the max(int(V·(1 − rate)), 1) of smallest score.

    Source: DINOv2, layers/block.py, drop_add_residual_stochastic_depth.
    """
    keep = max(int(len(scores_V) * (1 - rate)), 1)
    return scores_V.argsort(stable=True)[:keep].sort().values


class Block(nn.Module):
    """Attention, then feed-forward; each is normed, scaled and added to the tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.drop_path = config.drop_path
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config.width, config.layer_scale)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.mlp: Mlp | SwiGlu = SwiGlu(config) if config.ffn == "swiglu" else Mlp(config)
        self.ls2 = LayerScale(config.width, config.layer_scale)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        for norm in (self.norm1, self.norm2):
            norm.reset_parameters()
        self.attn.init_weights(generator)
        self.mlp.init_weights(generator)
        self.ls1.init_weights()
        self.ls2.init_weights()

    def _attend(self, x_TD: Tensor, sequences: Sequences, rotary: Rotary | None) -> Tensor:
        return self.ls1(self.attn(self.norm1(x_TD), sequences, rotary))

    def _transform(self, x_TD: Tensor) -> Tensor:
        return self.ls2(self.mlp(self.norm2(x_TD)))

    def forward(
        self,
        x_TD: Float[Tensor, "T D"],
        sequences: Sequences,
        rotary: Rotary | None,
        drop_scores_2V: Float[Tensor, "2 V"] | None = None,
    ) -> Float[Tensor, "T D"]:
        """Tokens after the block; with scores, each branch runs on its subset of views only."""
        if drop_scores_2V is None:
            x_TD = x_TD + self._attend(x_TD, sequences, rotary)
            return x_TD + self._transform(x_TD)
        part, rows, gain = self._subset(sequences, drop_scores_2V[0])
        part_rotary = None if rotary is None else rotary.rows(rows)
        residual = self._attend(x_TD.index_select(0, rows), part, part_rotary)
        x_TD = x_TD.index_add(0, rows, residual.to(x_TD.dtype), alpha=gain)
        part, rows, gain = self._subset(sequences, drop_scores_2V[1])
        residual = self._transform(x_TD.index_select(0, rows))
        return x_TD.index_add(0, rows, residual.to(x_TD.dtype), alpha=gain)

    def _subset(self, sequences: Sequences, scores_V: Tensor) -> tuple[Sequences, Tensor, float]:
        """The kept views' packing, their token rows, and V/kept, which keeps the expectation."""
        views = kept_views(scores_V, self.drop_path)
        part, rows = sequences.select(views)
        return part, rows, sequences.views / len(views)


class VisionTransformer(nn.Module):
    """A vision transformer on packed views.

    Parameter names: embed.{patch_embed, cls_token, register_tokens, mask_token, position, scale}.*,
    blocks.<l>.{norm1, attn, ls1, norm2, mlp, ls2}.*, norm.*
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.embed = TokenEmbedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.init_weights(generator)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Give every parameter its starting value (DINOv2's)."""
        self.embed.init_weights(generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.init_weights(generator)
        self.norm.reset_parameters()

    def forward(
        self,
        patches_NF: Float[Tensor, "N F"],
        sequences: Sequences,
        *,
        mask_N: Bool[Tensor, " N"] | None = None,
        hide_scale_V: Bool[Tensor, " V"] | None = None,
        drop_scores_L2V: Float[Tensor, "L 2 V"] | None = None,
    ) -> Features:
        """Features of every view of a pack.

        Args:
            patches_NF: patch rows in packed order, values as (row, column, channel).
            sequences: how the views lie in the pack.
            mask_N: patches to replace by the mask token (iBOT).
            hide_scale_V: views whose µm/px is to be treated as unknown, by every scale-aware code.
            drop_scores_L2V: on the CPU, uniform draws per layer, branch (attention, feed-forward) and
                view; the views of smallest score go through. None: no stochastic depth.

        Raises:
            ValueError: the pack does not fit this model, or the scores do not fit the pack.
        """
        self._check(patches_NF, sequences, drop_scores_L2V)
        if hide_scale_V is not None:
            sequences = sequences.hide_scale(hide_scale_V)
        if self.config.drop_path == 0:
            drop_scores_L2V = None
        x_TD = self.embed(patches_NF, sequences, mask_N)
        rotary = rotary_tables(sequences, self.config)
        for layer, block in enumerate(self.blocks):
            scores_2V = None if drop_scores_L2V is None else drop_scores_L2V[layer]
            if self.config.activation_checkpointing and torch.is_grad_enabled():
                x_TD = checkpoint(block, x_TD, sequences, rotary, scores_2V, use_reentrant=False)
            else:
                x_TD = block(x_TD, sequences, rotary, scores_2V)
        x_TD = self.norm(x_TD)
        prefix_VRD = x_TD[sequences.prefix_rows_VR]
        patches_ND = x_TD.index_select(0, sequences.patch_rows_N)
        return Features(prefix_VRD[:, 0], prefix_VRD[:, 1:], patches_ND)

    def _check(self, patches_NF: Tensor, sequences: Sequences, drop_scores: Tensor | None) -> None:
        config = self.config
        if patches_NF.shape != (sequences.patches, config.patch_values):
            raise ValueError(
                f"VisionTransformer: patches must be [{sequences.patches}, {config.patch_values}], got "
                f"{list(patches_NF.shape)}; render "
                f"with patch_px {config.patch_px}, channels {config.channels}"
            )
        if (sequences.prefix, sequences.patch_px) != (config.prefix, config.patch_px):
            raise ValueError(
                f"VisionTransformer: prefix and patch_px must be {config.prefix} and {config.patch_px}, got "
                f"{sequences.prefix} and {sequences.patch_px}; make the Sequences from the model's config"
            )
        wanted = (config.layers, 2, sequences.views)
        if drop_scores is not None and (drop_scores.shape != wanted or drop_scores.device.type != "cpu"):
            raise ValueError(
                f"VisionTransformer: drop scores must be {list(wanted)} on the CPU, got "
                f"{list(drop_scores.shape)} on {drop_scores.device}; draw them in the plan"
            )
