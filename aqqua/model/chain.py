"""All blocks of a backbone as one chain of fused passes over the residual stream.

What Block.forward writes as norm, branch, gain, addition is cut here between the branch and the addition:
one kernel adds a branch to the stream and norms the rows that the next branch keeps, so the stream is read
and written once per branch. Parameters and result are those of the blocks run one by one, but for rounding.

Letter key: T tokens, D width, L layers, V views. Test: tests/model/test_chain.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aqqua.kernels.residual_norm import Kept, kept_of_branches, norm_rows, residual_norm
from aqqua.model.block import Block, LayerScale, kept_views
from aqqua.model.rotary import Rotary
from aqqua.model.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Share:
    """What one branch runs on; without views, on all of the pack."""

    pack: Sequences
    views: Int[Tensor, " S"] | None = None  # on the CPU
    kept: Kept | None = None

    @cached_property
    def sequences(self) -> Sequences:
        """The packing of its views."""
        return self.pack if self.views is None else self.pack.part(self.views)

    @property
    def gain(self) -> float:
        """All views over these, which keeps the expectation."""
        return 1.0 if self.views is None else self.pack.views / len(self.views)

    def angles(self, rotary: Rotary | None) -> Rotary | None:
        """The rotary tables of its tokens."""
        return rotary if rotary is None or self.kept is None else rotary.rows(self.kept.rows_U)


def run_chain(
    blocks: Sequence[Block],
    last_norm: nn.LayerNorm,
    x_TD: Float[Tensor, "T D"],
    sequences: Sequences,
    rotary: Rotary | None,
    drop_scores_L2V: Float[Tensor, "L 2 V"] | None,
    checkpointing: bool = False,
) -> Float[Tensor, "T D"]:
    """The normed tokens after all blocks, in x_TD's dtype, by Triton.

    Args:
        drop_scores_L2V: see VisionTransformer.forward.
        checkpointing: keep a block's inputs alone and run it again in the backward pass.
    """
    shares = _shares(blocks, sequences, drop_scores_L2V)
    norms = [norm for block in blocks for norm in (block.norm1, block.norm2)]
    compute = _compute_dtype(x_TD)
    z_UD = norm_rows(
        x_TD, norms[0].weight, norms[0].bias, kept=shares[0].kept, dtype=compute, eps=norms[0].eps,
        backend="triton",
    )  # fmt: skip
    for layer, block in enumerate(blocks):
        at, last = 2 * layer, layer == len(blocks) - 1
        following, dtype = (last_norm, x_TD.dtype) if last else (norms[at + 2], compute)
        run = partial(_run_block, block, following, dtype, shares[at : at + 3], rotary)
        if checkpointing and torch.is_grad_enabled():
            x_TD, z_UD = checkpoint(run, x_TD, z_UD, use_reentrant=False)
        else:
            x_TD, z_UD = run(x_TD, z_UD)
    return z_UD


def _run_block(
    block: Block,
    following: nn.LayerNorm,
    dtype: torch.dtype,
    shares: Sequence[Share],
    rotary: Rotary | None,
    x_TD: Tensor,
    z_UD: Tensor,
) -> tuple[Tensor, Tensor]:
    """From the stream and the normed input of a block to those of what follows, the latter of `dtype`."""
    attend, transform, after = shares
    branch_UD = block.attn(z_UD, attend.sequences, attend.angles(rotary))
    x_TD, z_UD = _add(x_TD, branch_UD, block.ls1, attend, block.norm2, transform, z_UD.dtype)
    return _add(x_TD, block.mlp(z_UD), block.ls2, transform, following, after, dtype)


def _add(
    x_TD: Tensor,
    branch_UD: Tensor,
    scale: LayerScale,
    share: Share,
    norm: nn.LayerNorm,
    after: Share,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    return residual_norm(
        x_TD, branch_UD, scale.gamma, norm.weight, norm.bias,
        gain=share.gain, kept=share.kept, next_kept=after.kept, dtype=dtype, eps=norm.eps, backend="triton",
    )  # fmt: skip


def _shares(blocks: Sequence[Block], pack: Sequences, scores_L2V: Tensor | None) -> list[Share]:
    """Of each branch in turn, and all of the pack for the last norm."""
    if scores_L2V is None:
        return [Share(pack)] * (2 * len(blocks) + 1)
    views = [
        kept_views(scores_V, block.drop_path)
        for block, scores_2V in zip(blocks, scores_L2V, strict=True)
        for scores_V in scores_2V
    ]
    tables = kept_of_branches(pack.lengths, views, pack.device)
    return [*(Share(pack, *share) for share in zip(views, tables, strict=True)), Share(pack)]


def _compute_dtype(x_TD: Tensor) -> torch.dtype:
    """What a linear layer would make of the stream."""
    kind = x_TD.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_TD.dtype
