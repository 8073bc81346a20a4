"""Guides: small heads on the student's CLS that learn what is known of an image beside its pixels (FINO).

Each sits behind a layer that lets values through and multiplies gradients by λ: above 0 the backbone learns
to tell the fact (how large a pixel is), below 0 to forget it (which instrument took the image), while the
head learns in both cases. λ rises along the run, and is 0 in a warm-up. What is not known of an image gives
no loss. With `balance`, what the guides send into the backbone is brought to one size: in every pack, the
gradient of each at the CLS is scaled to the geometric mean of all their norms. Packs are the same for every
number of ranks, so this is, too. (FINO scales the whole loss so, heads included, by the norms on a GPU.)

Each loss is a mean over all global views of the step of which the fact is known: packs give shares.

Source: dinov3, branch FINO (arXiv 2606.05107), train/guided_ssl_meta_arch.py and train/metadata_utils.
Letter key: B rows (global views), D width, Q guides, C rows of facts. Test: tests/objective/test_guides.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aqqua.model.embed import init_linear

REVERSED_SHARE = 0.1  # of a reversed guide's weight; FINO
FieldName = Literal["um_per_px", "instrument", "depth_m", "region"]


@dataclass(frozen=True)
class Scale:
    """Numbers that are regressed: how many there are of an image, and the range they are mapped to [0, 1]
    from; beyond it they count as its end."""

    outputs: int
    low: float
    high: float


# log2 of µm/px from 1/8 to 1024 (IFCB 0.3, UVP5 up to 170; views may be magnified and reduced); log2 of
# 1 + metres down to 8191; the place on the unit sphere, which has no seam and no poles.
SCALES: dict[str, Scale] = {
    "um_per_px": Scale(1, -3.0, 10.0),
    "depth_m": Scale(1, 0.0, 13.0),
    "region": Scale(3, -1.0, 1.0),
}


class GuideConfig(BaseModel):
    """One fact that the backbone is to know, or to forget. The instrument is classified, as are numbers in
    bands (`edges`); other numbers are regressed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: FieldName = Field(
        description="um_per_px: log2 of the view's µm per pixel, also where it is hidden from the model; "
        "instrument; depth_m: log2(1 + metres); region: latitude and longitude as a point of the unit sphere"
    )
    weight: float = Field(
        default=0.1, gt=0, le=10, description="of its loss (FINO: 0.03 to 0.1); a tenth of it if reversed"
    )
    reverse: bool = Field(default=False, description="the backbone is to forget it, not to know it")
    edges: tuple[float, ...] = Field(
        default=(),
        description="of um_per_px or depth_m, in µm or metres, ascending: what parts the bands that are then "
        "told apart in the place of a regression",
    )
    names: tuple[str, ...] = Field(
        default=(), description="instruments to tell apart; empty: all of the dataset but 'unknown'"
    )
    hidden: int = Field(default=256, ge=1, le=65536, description="width of the head's hidden layer")

    @model_validator(mode="after")
    def _makes_sense(self) -> "GuideConfig":
        of_numbers = self.field in ("um_per_px", "depth_m")
        if self.edges and (not of_numbers or list(self.edges) != sorted(set(self.edges))):
            raise ValueError(
                f"edges must be ascending and of um_per_px or depth_m, got {list(self.edges)} of "
                f"{self.field}; sort them, or leave them out"
            )
        if self.names and self.field != "instrument":
            raise ValueError(
                f"names must be of the field instrument, got some of {self.field}; leave them out"
            )
        return self

    @property
    def classes(self) -> int:
        """0 where numbers are regressed."""
        return len(self.names) if self.field == "instrument" else len(self.edges) + bool(self.edges)

    @property
    def outputs(self) -> int:
        """Of the head; 0 where an instrument's names are not known yet."""
        counted = self.field == "instrument" or bool(self.edges)
        return self.classes if counted else SCALES[self.field].outputs

    @property
    def told_rows(self) -> int:
        """Rows of facts: the class, or the numbers."""
        return 1 if self.field == "instrument" or self.edges else SCALES[self.field].outputs


class GuidingConfig(BaseModel):
    """How much guides may say, along a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schedule: Literal["sigmoid", "linear", "constant"] = Field(
        default="sigmoid",
        description="λ after the warm-up, by the share p of what is left: 2 / (1 + exp(−10 p)) − 1, p, or 1",
    )
    warmup_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of the run with λ = 0: heads learn, the backbone does not"
    )
    balance: bool = Field(
        default=False,
        description="scale the gradient of each guide at the CLS to the geometric mean of all of them",
    )

    def strength(self, share: float) -> float:
        """λ when so much of the run is over (0 to 1). Source: FINO, metadata_utils/lambda_schedule.py."""
        if share < self.warmup_share:
            return 0.0
        progress = (share - self.warmup_share) / (1.0 - self.warmup_share)
        if self.schedule == "sigmoid":
            return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0
        return progress if self.schedule == "linear" else 1.0


@dataclass(frozen=True)
class Guided:
    """What the guides gave of a pack: the weighted sum, and each guide's loss and its accuracy (share of
    right classes) or error (mean distance, in log2 steps or on the unit sphere), as shares of the step."""

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return (grads[0] * ctx.factor).to(grads[0].dtype), None


def scale_gradient(x: Tensor, factor: Float[Tensor, ""]) -> Tensor:
    """x; its gradient is multiplied by the value that `factor` has in the backward pass. Below 0 it is
    reversed (Ganin and Lempitsky 2015)."""
    return _ScaledGradient.apply(x, factor)


class Guides(nn.Module):
    """A head for each guide: one hidden layer, GELU between."""

    def __init__(self, guides: Sequence[GuideConfig], width: int) -> None:
        """
        Raises:
            ValueError: a field is guided twice, or an instrument guide knows no names.
        """
        super().__init__()
        fields = [guide.field for guide in guides]
        if len(set(fields)) < len(fields) or any(guide.outputs < 1 for guide in guides):
            raise ValueError(
                f"objective.guides must be of different fields, and instruments have names, got {fields}; "
                "correct the list"
            )
        self.guides = tuple(guides)
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, g.hidden), nn.GELU(), nn.Linear(g.hidden, g.outputs))
            for g in guides
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                init_linear(layer)

    def forward(
        self,
        cls_BD: Float[Tensor, "B D"],
        told_CB: Float[Tensor, "C B"],
        known_Q: Sequence[int],
        strength: float,
        balance: bool,
    ) -> Guided:
        """This pack's share of the guides' losses.

        Args:
            cls_BD: of the global views, before the DINO head.
            told_CB: the facts, `told_rows` of each guide: a class, or numbers in [0, 1]; NaN is unknown.
            known_Q: global views of the whole step of which each fact is known.
            strength: λ.
            balance: as in the config.
        """
        parts: dict[str, Tensor] = {}
        weighted, seen, factors = [], [], []
        told = told_CB.split([guide.told_rows for guide in self.guides])
        for guide, mlp, told_RB, known in zip(self.guides, self.mlp, told, known_Q, strict=True):
            factors.append(cls_BD.new_full((), -strength if guide.reverse else strength, dtype=torch.float32))
            seen.append(scale_gradient(cls_BD, factors[-1]))
            says_BO = mlp(seen[-1]).float()
            judge = _classified if guide.classes else _regressed
            loss, judged = (value / max(known, 1) for value in judge(says_BO, told_RB, guide))
            parts[f"guide_{guide.field}"] = loss
            parts[f"{'accuracy' if guide.classes else 'error'}_{guide.field}"] = judged
            weighted.append((guide.weight * (REVERSED_SHARE if guide.reverse else 1.0)) * loss)
        if balance and strength and torch.is_grad_enabled():
            _balance(weighted, seen, factors)
        return Guided(torch.stack(weighted).sum(), parts)


def _classified(
    says_BO: Tensor,
    told_RB: Tensor,
    guide: GuideConfig,  # noqa: ARG001  as _regressed
) -> tuple[Tensor, Tensor]:
    known_B = ~told_RB[0].isnan()
    class_B = told_RB[0].nan_to_num(nan=0.0).long()
    loss_B = cross_entropy(says_BO, class_B, reduction="none")
    right_B = (says_BO.detach().argmax(dim=1) == class_B) & known_B
    return loss_B.masked_fill(~known_B, 0.0).sum(), right_B.sum().float()


def _regressed(says_BO: Tensor, told_RB: Tensor, guide: GuideConfig) -> tuple[Tensor, Tensor]:
    scale = SCALES[guide.field]
    apart_BO = (says_BO.sigmoid() - told_RB.T.nan_to_num()).masked_fill(told_RB.T.isnan(), 0.0)
    distance_B = torch.linalg.vector_norm(apart_BO.detach(), dim=1) * (scale.high - scale.low)
    return apart_BO.square().mean(dim=1).sum(), distance_B.sum()


def _balance(weighted: Sequence[Tensor], seen: Sequence[Tensor], factors: Sequence[Tensor]) -> None:
    """Set the factors so that every guide that has a gradient sends one of the same norm."""
    pairs = zip(weighted, seen, strict=True)
    grads = [torch.autograd.grad(loss, x, retain_graph=True)[0] for loss, x in pairs]
    norm_Q = torch.stack([torch.linalg.vector_norm(grad, dtype=torch.float32) for grad in grads])
    there_Q = norm_Q > 0
    log_Q = norm_Q.masked_fill(~there_Q, 1.0).log()
    mean = (log_Q.sum() / there_Q.sum().clamp(min=1)).exp()
    for factor, there, norm in zip(factors, there_Q, norm_Q, strict=True):
        factor.mul_(torch.where(there, mean / norm, 1.0))
