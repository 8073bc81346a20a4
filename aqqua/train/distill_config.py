"""The config of distillation. What it means: aqqua/train/distill.py. Test: tests/train/test_distill.py."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class DistillConfig(BaseModel):
    """Which network is followed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: Path = Field(
        description="run whose teacher is followed (its newest checkpoint), one of its checkpoints, or a "
        "file of `aqqua export --format teacher`. Patch size, channels, prototypes and grey levels must be "
        "those of the student; masks and model.drop_path have no part then (DINOv2, Oquab 2023, section 5)"
    )
