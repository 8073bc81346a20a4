"""How learning rate, weight decay, teacher momentum and temperature move along a run.

A schedule is a pure function of progress: any step is evaluated in O(1), no array of the run's length
exists, and resume needs no state. Progress is a step count that may be fractional: packs hold unequal
numbers of images, so a run counts samples seen / expected samples per step, and a change of GPU count or
pack size changes nothing. At whole steps the values are those of DINOv2 and DINOv3.

Test: tests/train/test_schedule.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from `start` to `base`, then half a cosine from `base` to `final`.

    Attributes:
        base: value at the end of the warm-up.
        final: value at and after the end; equal to `base` for a constant.
        steps: length in steps, warm-up included.
        warmup: steps of warm-up; `base` is reached at step warmup − 1 (numpy.linspace, end included).
        start: value at step 0 where there is a warm-up.
        frozen: the value is 0 before this step (last layer of the heads). Nothing is shifted by it.
        end: "v2" reaches `final` at step `steps`, "v3" one step earlier, at the last step.

    Raises:
        ValueError: the lengths contradict each other.

    Source: dinov2/utils/utils.py `CosineScheduler`; dinov3/train/cosine_lr_scheduler.py
        `linear_warmup_cosine_decay`.
    """

    base: float
    final: float
    steps: float
    warmup: float = 0.0
    start: float = 0.0
    frozen: float = 0.0
    end: Literal["v2", "v3"] = "v2"

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= self.steps or self.steps <= 0:
            raise ValueError(
                f"Schedule: needs 0 <= warmup <= steps and steps > 0, got warmup {self.warmup} and "
                f"steps {self.steps}; shorten the warm-up or lengthen the run"
            )

    def at(self, step: float) -> float:
        """Value at a step (whole or fractional, from 0); `final` from the end on.

        Raises:
            ValueError: step is negative.
        """
        if step < 0:
            raise ValueError(f"Schedule: step must be at least 0, got {step}")
        if step < self.frozen:
            return 0.0
        if step < self.warmup:
            return self._warming(step)
        return self._decaying(step - self.warmup, self.steps - self.warmup)

    def _warming(self, step: float) -> float:
        # A warm-up of up to one step has no room for a slope: linspace(start, base, 1) = [start].
        share = min(step / (self.warmup - 1), 1.0) if self.warmup > 1 else 0.0
        return self.start + share * (self.base - self.start)

    def _decaying(self, step: float, steps: float) -> float:
        if self.end == "v3":
            steps -= 1
        if step >= steps:
            return self.final
        return self.final + 0.5 * (self.base - self.final) * (1.0 + math.cos(math.pi * step / steps))


def rising(value: float, share: float, steps: float, start: float = 0.0) -> Schedule:
    """From `start` to `value` over a share of a run of `steps`, then constant."""
    return Schedule(value, value, steps, warmup=share * steps, start=start)


@dataclass(frozen=True)
class Rates:
    """What the schedules say of one step."""

    lr: float
    last_layer_lr: float
    weight_decay: float
    momentum: float
    temperature: float
    koleo_weight: float
    gram_weight: float = 0.0
    gram_copies: int = 0  # taken of the teacher by then
    guiding: float = 0.0  # λ of the guides


class TeacherConfig(BaseModel):
    """How the teacher follows the student and how sharp its targets are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    momentum_start: float = Field(
        default=0.992, ge=0, le=1, description="share of itself the teacher keeps per step (DINOv2: 0.992)"
    )
    momentum_end: float = Field(
        default=1.0, ge=0, le=1, description="the same at the end, by cosine (DINOv2: 1; DINOv3: constant)"
    )
    temperature_start: float = Field(
        default=0.04, gt=0, le=1, description="teacher temperature at step 0 (DINOv2, DINOv3: 0.04)"
    )
    temperature_end: float = Field(
        default=0.07, gt=0, le=1, description="teacher temperature after its warm-up (DINOv2, DINOv3: 0.07)"
    )
    temperature_warmup_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of the run it rises over (DINOv2: 30 of 100 epochs)",
    )

    def momentum(self, steps: float) -> Schedule:
        """Momentum of the teacher's moving average over a run of `steps`."""
        return Schedule(self.momentum_start, self.momentum_end, steps)

    def temperature(self, steps: float) -> Schedule:
        """Temperature of the teacher's targets: linear rise, then constant."""
        return rising(self.temperature_end, self.temperature_warmup_share, steps, self.temperature_start)
