"""A block of the backbone: attention inside each view, then feed-forward, each on its share of the views.

Written out here as it is read in a paper; where our kernels serve, aqqua/model/chain.py runs the same parts
in fewer passes over memory.

Letter key: T tokens, V views, D width, H heads, E head width, F hidden width of the feed-forward, S views
that go through a branch. Test: tests/model/test_vit.py.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aqqua.kernels.activation import activated_linear
from aqqua.kernels.attention import choose as choose_attention
from aqqua.kernels.attention import largest_tile, qkv_attention
from aqqua.kernels.choice import choose
from aqqua.model.config import ModelConfig
from aqqua.model.embed import init_linear
from aqqua.model.rotary import Rotary
from aqqua.model.sequences import Sequences

NORM_EPS = 1e-6  # dinov2/models/vision_transformer.py


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
        qkv_T3HE = self.qkv(x_TD).unflatten(1, (3, self.heads, -1))
        packing = (sequences.offsets_V1, sequences.lengths, sequences.max_length)
        angles = None if rotary is None else (rotary.cos_TE, rotary.sin_TE)
        backend, schedule = choose_attention(qkv_T3HE.device, qkv_T3HE.dtype, self.backend), None
        if backend == "triton":
            schedule = sequences.schedule(largest_tile(qkv_T3HE.device, qkv_T3HE.dtype))
        o_THE = qkv_attention(qkv_T3HE, *packing, rotary=angles, schedule=schedule, backend=backend)
        return self.proj(o_THE.flatten(1))


class Mlp(nn.Module):
    """Feed-forward with GELU."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.kernels: str = config.kernels
        self.fc1 = nn.Linear(config.width, config.ffn_width)
        self.fc2 = nn.Linear(config.ffn_width, config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        init_linear(self.fc1, generator)
        init_linear(self.fc2, generator)

    def forward(self, x_TD: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        a_TF = self.fc1(x_TD)
        if choose("activation", a_TF.device, a_TF.dtype, self.kernels) == "triton":
            return activated_linear(a_TF, self.fc2.weight, self.fc2.bias, "gelu", "triton")
        return self.fc2(nn.functional.gelu(a_TF))


class SwiGlu(nn.Module):
    """Feed-forward with a gate: w3(silu(gate) · up), gate and up from one matrix (DINOv2 giant)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.kernels: str = config.kernels
        self.w12 = nn.Linear(config.width, 2 * config.ffn_width)
        self.w3 = nn.Linear(config.ffn_width, config.width)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        init_linear(self.w12, generator)
        init_linear(self.w3, generator)

    def forward(self, x_TD: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        a_TF2 = self.w12(x_TD)
        if choose("activation", a_TF2.device, a_TF2.dtype, self.kernels) == "triton":
            return activated_linear(a_TF2, self.w3.weight, self.w3.bias, "swiglu", "triton")
        gate, up = a_TF2.chunk(2, dim=-1)
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
