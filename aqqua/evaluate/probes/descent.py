"""Many small heads, one for each rate of learning, trained side by side on the same batches.

The heads share nothing but the reading of the rows: each descends on its own loss, as if it were alone.
The rate falls to 0 along a cosine. Letters: N rows, B rows of a batch, G heads, K classes.
Test: tests/evaluate/probes/test_descent.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.evaluate.probes.probe import Advance


@dataclass(frozen=True)
class Course:
    """How long heads are trained."""

    epochs: int
    batch: int
    min_steps: int  # a few rows are passed as often as it takes

    def steps(self, rows: int) -> int:
        """In all."""
        return max(self.epochs * -(-rows // self.batch), self.min_steps)

    def batches(self, rows: int, seed: int) -> Iterator[Int[np.ndarray, " B"]]:
        """Row numbers of each step: every row once in a random order, then anew."""
        draw, left = np.random.default_rng(seed), np.zeros(0, np.int64)
        for _ in range(self.steps(rows)):
            if not len(left):
                left = draw.permutation(rows)
            yield left[: self.batch]
            left = left[self.batch :]


def descend(
    optimizer: torch.optim.Optimizer,
    logits_of: Callable[[Int[np.ndarray, " B"]], Float[Tensor, "B G K"]],
    labels_N: Int[Tensor, " N"],
    course: Course,
    seed: int,
    advance: Advance,
) -> None:
    """Train the optimizer's parameters; `advance` is called with the steps done."""
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, course.steps(len(labels_N)))
    for step, rows in enumerate(course.batches(len(labels_N), seed)):
        logits_BGK = logits_of(rows)
        label_BG = labels_N[torch.from_numpy(rows).to(labels_N.device)][:, None].expand(logits_BGK.shape[:2])
        loss_BG = torch.nn.functional.cross_entropy(logits_BGK.transpose(1, 2), label_BG, reduction="none")
        optimizer.zero_grad(set_to_none=True)
        loss_BG.mean(dim=0).sum().backward()
        optimizer.step()
        scheduler.step()
        advance(step + 1)
