"""What keeps a run honest: numbers that are not finite, ranks that drift apart.

Test: tests/train/test_guard.py.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aqqua.train.ranks import Ranks

MAX_STREAK = 3  # steps in a row without a finite loss and gradient
WORDS = 2**24  # hashed at a time: 256 MB of 64-bit products
_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)  # 2**64 / golden ratio; neighbours get unrelated multipliers


class NonFiniteError(RuntimeError):
    """Three steps in a row gave no finite loss or gradient. The run's state is good, and saved."""

    exit_code = 3  # of the process: to try again is not enough


def not_finite(loss: float, grad_norms: dict[str, float]) -> list[str]:
    """Names of what is NaN or infinite: `loss`, or a sub-module whose gradient is."""
    return [name for name, value in {"loss": loss, **grad_norms}.items() if not math.isfinite(value)]


class DivergedError(RuntimeError):
    """Ranks hold other bits where all must hold the same: memory, network or a kernel went wrong."""


def fingerprint(x: Tensor) -> int:
    """64 bits of a tensor's bytes; a single flipped bit always changes them.

    Each 32-bit word is multiplied by an odd number of its own and added, modulo 2**64: whatever the order of
    the sum, so a GPU may choose it.
    """
    raw_B = x.detach().contiguous().flatten().view(torch.uint8)
    raw_B = torch.cat([raw_B, raw_B.new_zeros(-len(raw_B) % 4)])
    found = 0
    for start, part in enumerate(raw_B.view(torch.int32).split(WORDS)):
        index = torch.arange(start * WORDS, start * WORDS + len(part), device=x.device)
        odd = index * _MULTIPLIER | 1
        found += int((part.long() * odd).sum())
    return (found + (1 << 63)) % (1 << 64) - (1 << 63)


def check_replicas(step: int, tensors: Iterable[tuple[str, Tensor]], ranks: Ranks) -> None:
    """Compare tensors that every rank must hold alike, bit for bit; one reading of them.

    Raises:
        DivergedError: they differ; names the first tensor and the ranks that are in the minority.
    """
    if ranks.size == 1:
        return
    prints = {name: fingerprint(tensor) for name, tensor in tensors}
    table = ranks.table(list(prints.values()))
    for name, column in zip(prints, zip(*table, strict=True), strict=True):
        (usual, votes), *others = Counter(column).most_common()
        if others:
            odd = [rank for rank, value in enumerate(column) if value != usual]
            who = f"on rank {', '.join(map(str, odd))}"
            if votes <= len(column) - votes:
                who += " or the others (too few ranks to tell)"
            raise DivergedError(
                f"step {step}: weights must have the same bits on all ranks, got others {who} in {name}; "
                "this step is not saved: look at that machine, then continue from the last checkpoint"
            )


@dataclass
class FiniteGuard:
    """Counts steps that were skipped because their loss or gradient was not finite."""

    streak: int = 0
    skipped: int = 0

    def admits(self, loss: float, grad_norms: dict[str, float]) -> bool:
        """True if the step may be taken; False to skip it (no optimizer step, no teacher update)."""
        bad = bool(not_finite(loss, grad_norms))
        self.streak = self.streak + 1 if bad else 0
        self.skipped += bad
        return not bad

    @property
    def exhausted(self) -> bool:
        """So many steps in a row that the run should end."""
        return self.streak >= MAX_STREAK
