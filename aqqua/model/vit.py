"""The backbone: a pre-norm vision transformer on packed views.

All views of a pack, of any grids, go through as one [T, D] tensor; only attention knows where a view
begins and ends. The model draws nothing at random: masks, hidden scales and the scores of stochastic
depth come from the plan.

Letter key: T tokens, V views, N patch rows, F values of a patch row, D width, H heads, E head width,
L layers, R registers. Test: tests/model/test_vit.py.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aqqua.kernels.attention import choose as choose_attention
from aqqua.kernels.choice import choose
from aqqua.kernels.residual_norm import WIDEST
from aqqua.kernels.segment import split_prefix
from aqqua.model.block import NORM_EPS, Block
from aqqua.model.chain import run_chain
from aqqua.model.config import ModelConfig
from aqqua.model.embed import TokenEmbedding
from aqqua.model.rotary import Rotary, rotary_tables
from aqqua.model.sequences import Kept, Sequences


@dataclass(frozen=True, eq=False)
class Features:
    """What the backbone says of a pack, after the final norm."""

    cls_VD: Float[Tensor, "V D"]
    registers_VRD: Float[Tensor, "V R D"]
    patches_ND: Float[Tensor, "N D"]


class VisionTransformer(nn.Module):
    """A vision transformer on packed views.

    Parameter names: embed.{patch_embed, cls_token, register_tokens, mask_token, position, scale}.*,
    blocks.<l>.{norm1, attn, ls1, norm2, mlp, ls2}.*, norm.*
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.embed = TokenEmbedding(config, config.kernels)
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
        kept: Kept | None = None,
    ) -> Features:
        """Features of every view of a pack.

        Args:
            patches_NF: patch rows in packed order, values as (row, column, channel). Patches may have another
                side than the model's own, `sequences.patch_px`: see aqqua.model.patch_kernel.
            sequences: how the views lie in the pack.
            mask_N: patches to replace by the mask token (iBOT).
            hide_scale_V: views whose µm/px is to be treated as unknown, by every scale-aware code.
            drop_scores_L2V: on the CPU, uniform draws per layer, branch (attention, feed-forward) and
                view; the views of smallest score go through. None: no stochastic depth.
            kept: patches that the blocks get, each at its own place; the others have features of 0. None:
                all.

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
        if kept is not None:
            sequences, rows_W = sequences.keep(kept)
            x_TD = x_TD.index_select(0, rows_W)
            rotary = None if rotary is None else rotary.rows(rows_W)
        if serving_kernels(self.config, x_TD.device, x_TD.dtype) == "triton":
            parts = cast("list[Block]", list(self.blocks)), self.norm
            checkpointing = self.config.activation_checkpointing
            x_TD = run_chain(*parts, x_TD, sequences, rotary, drop_scores_L2V, checkpointing)
            prefix_VRD, patches_ND = split_prefix(x_TD, sequences.offsets_V1, sequences.prefix, "triton")
        else:
            grouped = choose_attention(x_TD.device, x_TD.dtype, self.config.attention) == "grouped"
            blocks = self._run_by_length if grouped else self._run_blocks
            x_TD = self.norm(blocks(x_TD, sequences, rotary, drop_scores_L2V))
            prefix_VRD = x_TD[sequences.prefix_rows_VR]
            patches_ND = x_TD.index_select(0, sequences.patch_rows_N)
        if kept is not None:
            nothing_ND = patches_ND.new_zeros(len(patches_NF), patches_ND.shape[1])
            patches_ND = nothing_ND.index_copy(0, kept.rows_U, patches_ND)
        return Features(prefix_VRD[:, 0], prefix_VRD[:, 1:], patches_ND)

    def _run_by_length(
        self, x_TD: Tensor, sequences: Sequences, rotary: Rotary | None, drop_scores_L2V: Tensor | None
    ) -> Tensor:
        """The blocks over views in order of length: grouped attention then copies none of them."""
        order_V = sequences.lengths.argsort(stable=True)
        sequences, rows_T = sequences.select(order_V)
        rotary = None if rotary is None else rotary.rows(rows_T)
        drop_scores_L2V = None if drop_scores_L2V is None else drop_scores_L2V[:, :, order_V]
        x_TD = self._run_blocks(x_TD.index_select(0, rows_T), sequences, rotary, drop_scores_L2V)
        return x_TD.index_select(0, rows_T.argsort())

    def _run_blocks(
        self, x_TD: Tensor, sequences: Sequences, rotary: Rotary | None, drop_scores_L2V: Tensor | None
    ) -> Tensor:
        for layer, block in enumerate(self.blocks):
            scores_2V = None if drop_scores_L2V is None else drop_scores_L2V[layer]
            if self.config.activation_checkpointing and torch.is_grad_enabled():
                x_TD = checkpoint(block, x_TD, sequences, rotary, scores_2V, use_reentrant=False)
            else:
                x_TD = block(x_TD, sequences, rotary, scores_2V)
        return x_TD

    def _check(self, patches_NF: Tensor, sequences: Sequences, drop_scores: Tensor | None) -> None:
        config = self.config
        patch_values = sequences.patch_px**2 * config.channels
        if patches_NF.shape != (sequences.patches, patch_values):
            raise ValueError(
                f"VisionTransformer: patches must be [{sequences.patches}, {patch_values}], got "
                f"{list(patches_NF.shape)}; render "
                f"with patch_px {sequences.patch_px}, channels {config.channels}"
            )
        if sequences.prefix != config.prefix:
            raise ValueError(
                f"VisionTransformer: prefix must be {config.prefix}, got {sequences.prefix}; make the "
                "Sequences from the model's config"
            )
        wanted = (config.layers, 2, sequences.views)
        if drop_scores is not None and (drop_scores.shape != wanted or drop_scores.device.type != "cpu"):
            raise ValueError(
                f"VisionTransformer: drop scores must be {list(wanted)} on the CPU, got "
                f"{list(drop_scores.shape)} on {drop_scores.device}; draw them in the plan"
            )


def serving_kernels(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    """'triton' or 'reference': what serves a residual stream of this device and dtype.

    Raises:
        RuntimeError: the config forces kernels that cannot serve here.
    """
    if config.kernels == "auto" and config.width > WIDEST:
        return "reference"
    return choose("residual_norm", device, dtype, config.kernels)
