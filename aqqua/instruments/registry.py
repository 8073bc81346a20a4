"""Instrument facts from registry.yaml: µm/px, polarity, channels, footer, each with its source."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

UM_PER_PX_RANGE = (0.01, 1000.0)  # outside it a value is a mistake of unit


class Instrument(BaseModel):
    """What is known of one kind of imager. None means unknown, never a guess."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    um_per_px: float | None = Field(default=None, ge=UM_PER_PX_RANGE[0], le=UM_PER_PX_RANGE[1])
    polarity: Literal["dark_on_bright", "bright_on_dark", "mid_grey"] | None = None
    channels: Literal[1, 3] | None = None
    footer_px: int = Field(default=0, ge=0, description="rows burnt under copies, in pixels; cut where found")
    source: str = Field(min_length=1, description="where each fact above comes from")


UNKNOWN = Instrument(source="nothing is known of this instrument")


@cache
def registry() -> dict[str, Instrument]:
    """All instruments by name (IFCB, UVP6, ...)."""
    text = (Path(__file__).parent / "registry.yaml").read_text(encoding="utf-8")
    return {name: Instrument(**facts) for name, facts in yaml.safe_load(text).items()}


def facts(name: str) -> Instrument:
    """Facts of an instrument; an unlisted name has none."""
    return registry().get(name, UNKNOWN)
