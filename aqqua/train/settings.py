"""The config of a pretraining run: one model per room, composed."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.plan.masks import MaskConfig
from aqqua.plan.view_config import ViewConfig
from aqqua.train.data import DataConfig
from aqqua.train.distill_config import DistillConfig
from aqqua.train.optim import OptimConfig
from aqqua.train.profile import ProfileConfig
from aqqua.train.schedule import TeacherConfig
from aqqua.train.spike import SpikeConfig
from aqqua.train.zero_config import ZeroConfig


class TrainConfig(BaseModel):
    """Length, pace and machine of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int | None = Field(default=None, ge=1, description="length of the run in images; or give epochs")
    epochs: float | None = Field(
        default=None, gt=0, description="length of the run in visits of the training images"
    )
    max_steps: int | None = Field(
        default=None, ge=1, description="stop (with a checkpoint) after this step anyway"
    )
    log_every: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints that stay")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA where it is")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of the student's and teacher's matrix products; auto: bfloat16 on CUDA"
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of PyTorch; null: its own choice"
    )
    deterministic: bool = Field(
        default=False,
        description="only deterministic algorithms, at some cost on CUDA; with several ranks also gradients "
        "added in the order of the lanes, the same bits for every number of ranks, for data.lanes times the "
        "traffic",
    )
    engine: Literal["plain", "zero"] = Field(
        default="plain",
        description="who keeps weights and moments: every rank all of them, or DeepSpeed's ZeRO a part each",
    )
    zero: ZeroConfig = Field(default=ZeroConfig(), description="of engine zero")
    gradient_sum: Literal["float32", "float64"] = Field(
        default="float64",
        description="in which gradients of packs and ranks add up, to be rounded then: with float64 a run "
        "hardly ever depends on the number of ranks, for 8 bytes of memory per weight and twice the traffic "
        "of float32. deterministic goes beyond both",
    )
    timeout_s: float = Field(
        default=120.0,
        ge=2,
        description="with several ranks: longest silence of one; then the others end and name it",
    )
    hash_every: int = Field(
        default=500,
        ge=1,
        description="with several ranks: steps between comparisons of all weights, bit for bit",
    )
    spike: SpikeConfig = Field(
        default=SpikeConfig(), description="when loss or gradients rise and do not come down: back, and on"
    )
    grant_gpu_hours: float | None = Field(
        default=None,
        gt=0,
        description="GPU-hours this run may use in all its sessions; null: unknown. Told of, never enforced",
    )
    tensorboard: bool = Field(default=True, description="also write TensorBoard events")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if (self.images is None) == (self.epochs is None):
            raise ValueError("a run must have one length: images or epochs; give exactly one of them")
        return self


class PretrainConfig(BaseModel):
    """A whole pretraining run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Path = Field(description="folder of the run: checkpoints, metrics, resolved config")
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="of everything random")
    init: Path | None = Field(
        default=None,
        description="safetensors file the backbone starts from: of `aqqua export`, DINOv2, timm or "
        "Hugging Face",
    )
    data: DataConfig
    views: ViewConfig = ViewConfig()
    masks: MaskConfig = MaskConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    teacher: TeacherConfig = TeacherConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig
    distill: DistillConfig | None = Field(
        default=None,
        description="follow a trained, larger network, not one's own average; null: do not",
    )
    profile: ProfileConfig | None = Field(
        default=None, description="record a few steps for a profiler; true is the usual way, null none"
    )

    @field_validator("profile", mode="before")
    @classmethod
    def _profile_on(cls, given: Any) -> Any:
        return {True: {}, False: None}[given] if isinstance(given, bool) else given

    @property
    def hidden(self) -> MaskConfig | None:
        """What the student does not see; None, in distillation: it sees everything."""
        return self.masks if self.distill is None else None

    @model_validator(mode="after")
    def _groups_of_lanes(self) -> "PretrainConfig":
        if self.data.lanes % self.objective.koleo_lanes:
            raise ValueError(
                f"objective.koleo_lanes must divide data.lanes, {self.data.lanes}, got "
                f"{self.objective.koleo_lanes}; make it one of its divisors"
            )
        return self

    @model_validator(mode="after")
    def _gram_sees_all(self) -> "PretrainConfig":
        if self.objective.gram is not None and self.views.token_drop[0] > 0:
            raise ValueError(
                "objective.gram must have all patches of the global views, got views.token_drop="
                f"{[*self.views.token_drop]}; drop from local views alone"
            )
        return self

    @model_validator(mode="after")
    def _zero_can(self) -> "PretrainConfig":
        train, zero = self.train, self.train.zero
        if train.engine != "zero":
            return self
        if train.deterministic:
            raise ValueError(
                "train.deterministic must be false with train.engine=zero, whose sums depend on the ranks; "
                "use the plain engine"
            )
        if self.optim.backend == "triton":
            raise ValueError(
                "optim.backend=triton cannot serve with train.engine=zero: DeepSpeed moves shards; use auto"
            )
        if zero.stage == 3 and self.objective.kernels == "recompute":
            raise ValueError(
                "objective.kernels=recompute cannot serve with train.zero.stage=3: it takes a head's weights "
                "outside its forward; use triton, or stage 2"
            )
        objective = self.objective
        beyond = {
            "gram": objective.gram is not None,
            "guides": bool(objective.guides),
            "koleo_lanes": objective.spreads,
        }
        if zero.stage == 3 and (asked := [f"objective.{name}" for name, on in beyond.items() if on]):
            raise ValueError(
                f"{', '.join(asked)} cannot serve with train.zero.stage=3, whose weights are whole within a "
                "unit's forward alone; use stage 1 or 2, or the plain engine"
            )
        if zero.stage == 3 and zero.whole_below < self.model.width:
            raise ValueError(
                f"train.zero.whole_below must be at least model.width, {self.model.width}, got "
                f"{zero.whole_below}: norms and gains are used where nothing gathers them; raise it"
            )
        return self
