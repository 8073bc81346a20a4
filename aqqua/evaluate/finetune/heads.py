"""Heads: from the feature of an image to classes or traits.

One linear layer on features that were standardised over training images; the scale of a backbone's features
says nothing, and a fresh head of zeros then starts at the same loss whatever the backbone.

Letters: B rows, D width, C classes, T traits, Q cut points of an ordinal trait.
Test: tests/evaluate/finetune/test_finetune_heads.py.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as nnf

from aqqua.evaluate.finetune.traits import Trait

FLOOR = 1e-6  # of a feature's standard deviation
LEAST_GAP = 1e-3  # between two cut points, so that every level keeps a probability


class LinearHead(nn.Module):
    """Standardised features through one linear layer, zero at the start; float32."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.mean_D: Tensor
        self.scale_D: Tensor
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("scale_D", torch.ones(width))
        self.linear = nn.Linear(width, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def standardise(self, features_ND: Float[Tensor, "N D"]) -> None:
        """Take mean and deviation of these features as 0 and 1."""
        self.mean_D.copy_(features_ND.double().mean(dim=0))
        self.scale_D.copy_(features_ND.double().std(dim=0, correction=0).clamp(min=FLOOR))

    def forward(self, features_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B O"]:
        return self.linear((features_BD.float() - self.mean_D) / self.scale_D)


class SpeciesHead(LinearHead):
    """Logits over classes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)


class TraitHead(LinearHead):
    """One number per trait: a standardised value or a logit; ordinal traits have rising cut points beside."""

    def __init__(self, width: int, traits: Sequence[Trait]) -> None:
        super().__init__(width, len(traits))
        self.traits = tuple(traits)
        self.cuts = nn.ParameterDict(
            {str(t): _first_cuts(len(trait.levels)) for t, trait in enumerate(traits) if trait.levels}
        )

    def cut_points(self, trait: int) -> Float[Tensor, " Q"]:
        """Rising cut points of an ordinal trait: the first, then positive gaps."""
        raw_Q = cast(Tensor, self.cuts[str(trait)])
        return torch.cat([raw_Q[:1], raw_Q[:1] + (nnf.softplus(raw_Q[1:]) + LEAST_GAP).cumsum(0)])

    def loss(self, out_BT: Float[Tensor, "B T"], coded_BT: Float[Tensor, "B T"]) -> Float[Tensor, " B"]:
        """Negative log likelihood per image, summed over the traits that are known (not NaN)."""
        total_B = out_BT.new_zeros(len(out_BT))
        for t, trait in enumerate(self.traits):
            known_B = ~coded_BT[:, t].isnan()
            truth_B, out_B = coded_BT[known_B, t], out_BT[known_B, t]
            if trait.kind == "continuous":
                loss_B = (out_B - truth_B) ** 2 / 2
            elif trait.kind == "binary":
                loss_B = nnf.binary_cross_entropy_with_logits(out_B, truth_B, reduction="none")
            else:
                loss_B = -ordinal_log_likelihood(out_B, self.cut_points(t), truth_B.long())
            total_B = total_B.index_add(0, known_B.nonzero()[:, 0], loss_B)
        return total_B

    @torch.no_grad()
    def answer(self, out_BT: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """As Trait.decode takes it: standardised value, most probable level, or probability."""
        found = []
        for t, trait in enumerate(self.traits):
            out_B = out_BT[:, t]
            if trait.kind == "binary":
                out_B = out_B.sigmoid()
            elif trait.kind == "ordinal":
                out_B = level_probabilities(out_B, self.cut_points(t)).argmax(dim=1).float()
            found.append(out_B)
        return torch.stack(found, dim=1)


def _first_cuts(levels: int) -> nn.Parameter:
    start = torch.full((levels - 1,), 0.5413)  # softplus is 1: cut points a unit apart, about 0
    start[0] = -(levels - 2) / 2
    return nn.Parameter(start)


def ordinal_log_likelihood(
    out_B: Float[Tensor, " B"], cuts_Q: Float[Tensor, " Q"], level_B: Tensor
) -> Float[Tensor, " B"]:
    """log P(level) of the proportional-odds model, P(level > q) = σ(out − cut_q).

    σ(a) − σ(b) is written σ(a) · σ(−b) · (1 − e^(b−a)), which loses no digits where both are near 0 or 1.

    Source: McCullagh 1980, "Regression Models for Ordinal Data".
    """
    far = torch.full((1,), 1e4, device=cuts_Q.device)
    bounds = torch.cat([-far, cuts_Q, far])
    above_B, below_B = out_B - bounds[level_B], out_B - bounds[level_B + 1]
    between_B = torch.log1p(-(below_B - above_B).exp())
    return nnf.logsigmoid(above_B) + nnf.logsigmoid(-below_B) + between_B


def level_probabilities(out_B: Float[Tensor, " B"], cuts_Q: Float[Tensor, " Q"]) -> Float[Tensor, "B levels"]:
    """Probability of every level; rows sum to 1."""
    levels = range(len(cuts_Q) + 1)
    logs = [ordinal_log_likelihood(out_B, cuts_Q, torch.full_like(out_B, k).long()) for k in levels]
    return torch.stack(logs, dim=1).softmax(dim=1)
