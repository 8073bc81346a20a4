"""A rise of the loss or the gradient norm that does not pass by itself: how it is told from an odd step.

A step is odd if one of its numbers is more than `sigma` deviations above the mean of the last `window` usual
steps. One odd step is a hard batch: its gradient is clipped, nothing lasts. Weights that went wrong make
odd steps of all batches that follow. So a spike is `odd_steps` odd ones among the last `of_last`: a few steps
late, which costs nothing where the way back is a checkpoint, and not upset by a usual step in between.
Numbers of odd steps are not taken into mean and deviation, or a spike would soon be usual.

Source: mean + k·σ of loss and gradient norm as levanter's skip-step; back some 100 steps and on behind the
data as PaLM (arXiv 2204.02311, section 5.1). Test: tests/train/test_spike.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEAST_SHARE = 1e-3  # of the mean: a smaller deviation, as of numbers that stand still, is taken as this


class SpikeConfig(BaseModel):
    """What is a spike, and how often a run may go back behind one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma: float = Field(
        default=6.0, gt=0, description="deviations above the mean from which a step's loss or norm is odd"
    )
    window: int = Field(
        default=200,
        ge=2,
        description="usual steps that mean and deviation are of; before them nothing is odd",
    )
    odd_steps: int = Field(default=3, ge=1, description="odd steps that make a spike, among spike.of_last")
    of_last: int = Field(default=5, ge=1, description="last steps among which odd ones are counted")
    rollbacks: int = Field(
        default=3,
        ge=0,
        description="times a run may go back to an earlier checkpoint, for spikes and for numbers that are "
        "not finite together; then it ends. 0: it never goes back, spikes are only said",
    )

    @model_validator(mode="after")
    def _can_happen(self) -> "SpikeConfig":
        if self.odd_steps > self.of_last:
            raise ValueError(
                f"train.spike.odd_steps must be at most train.spike.of_last, {self.of_last}, got "
                f"{self.odd_steps}; lower it"
            )
        return self


class SpikeError(RuntimeError):
    """Loss or gradients rose again after as many rollbacks as a run may have."""

    exit_code = 3  # of the process: to try again is not enough


@dataclass
class Spikes:
    """The detector. Its fields are what a checkpoint keeps of it."""

    usual: dict[str, list[float]] = field(default_factory=dict)  # name -> numbers of the last usual steps
    odd: list[int] = field(default_factory=list)  # the odd ones among the last steps

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> "Spikes":
        """From a checkpoint's state; one that is older than the detector has none."""
        return cls(**state) if state else cls()

    @property
    def began(self) -> int:
        """First odd step of the last ones; only while there is one."""
        return self.odd[0]

    def see(self, step: int, numbers: Mapping[str, float], config: SpikeConfig) -> bool:
        """Take in the finite numbers of a step; True if it completes a spike."""
        self.odd = [at for at in self.odd if at > step - config.of_last]
        if any(self._is_odd(self.usual.get(name, []), x, config) for name, x in numbers.items()):
            self.odd.append(step)
            return len(self.odd) >= config.odd_steps
        for name, x in numbers.items():
            self.usual[name] = [*self.usual.get(name, []), x][-config.window :]
        return False

    @staticmethod
    def _is_odd(usual: list[float], x: float, config: SpikeConfig) -> bool:
        if len(usual) < config.window:
            return False
        mean = fmean(usual)
        return x > mean + config.sigma * max(pstdev(usual, mean), LEAST_SHARE * abs(mean))


def numbers_of(total_loss: float, grad_norms: Mapping[str, float]) -> dict[str, float]:
    """What the detector looks at: the loss and the norm of all gradients before clipping."""
    return {"loss": total_loss, "gradient norm": math.hypot(*grad_norms.values())}
