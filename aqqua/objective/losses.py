"""What a pack is told of its step, and what it gives: the losses and their names.

Letter key: Q guides, E losses. Test: tests/objective/test_losses.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.objective.spread import Neighbours

USUAL = ("dino", "ibot", "koleo", "total")  # the losses that are always there


@dataclass(frozen=True)
class Beside:
    """What a pack is told of the step for the terms that are off by default."""

    gram_weight: float = 0.0  # 0: the Gram teacher is not asked
    guiding: float = 0.0  # λ of the guides
    known_Q: tuple[int, ...] = ()  # global views of the step of which each guide's fact is known
    neighbours: Neighbours | None = None  # of the pack's images, where KoLeo goes beyond the pack


NOTHING_BESIDE = Beside()


@dataclass(frozen=True)
class Losses:
    """One pack's share of the step's losses, unweighted (float32 scalars), and their weighted sum."""

    dino: Tensor
    ibot: Tensor
    koleo: Tensor
    total: Tensor
    more: dict[str, Tensor] = field(default_factory=dict)  # of terms that are off by default, if they are on

    @property
    def by_name(self) -> dict[str, Tensor]:
        """All of them; the same names in the same order for every pack of a run."""
        return {**{name: getattr(self, name) for name in USUAL}, **self.more}

    def row(self) -> Float[Tensor, " E"]:
        """All of them, without their graph."""
        return torch.stack([value.detach().float() for value in self.by_name.values()])

    @staticmethod
    def of_row(row_E: Sequence[Tensor] | Tensor, names: Sequence[str]) -> "Losses":
        """The losses whose `row` is given and whose `by_name` has these names."""
        found = dict(zip(names, row_E, strict=True))
        usual = [found.pop(name) for name in USUAL]
        return Losses(usual[0], usual[1], usual[2], usual[3], found)
