"""A run on disk and in memory: what is built at the start, saved at a checkpoint, found again on resume.

Test: tests/train/test_run.py.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aqqua
from aqqua.model.weights import load_backbone
from aqqua.objective.ssl import SelfSupervised
from aqqua.plan.lanes import LaneState
from aqqua.store.read import Dataset
from aqqua.train import checkpoint
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder, StepData
from aqqua.train.folder import CHECKPOINTS, describe
from aqqua.train.fused import FusedStep, serving_step
from aqqua.train.guard import FiniteGuard
from aqqua.train.optim import make_optimizer, parameter_groups
from aqqua.train.serving import serving
from aqqua.train.settings import PretrainConfig, TrainConfig

_ORDER = ("lanes", "window_blocks", "holdout")  # of data: what, beside the seed, sets the order of images


@dataclass
class Run:
    """Everything that changes while training, and the machinery around it."""

    config: PretrainConfig
    folder: Path
    dataset: Dataset
    model: SelfSupervised
    optimizer: torch.optim.AdamW
    feeder: Feeder
    device: torch.device
    images_per_step: float  # expected; makes progress in images into progress in steps
    images_total: int
    lanes: dict[int, LaneState]
    step: int = 0
    images: int = 0
    guard: FiniteGuard = field(default_factory=FiniteGuard)
    fused: FusedStep | None = None  # where our kernels take the optimizer's step

    @property
    def nominal_step(self) -> float:
        """Progress in steps of equal image counts; what the schedules follow."""
        return self.images / self.images_per_step

    @property
    def nominal_steps(self) -> float:
        return max(self.images_total / self.images_per_step, 1.0)

    @property
    def done(self) -> bool:
        return self.images >= self.images_total

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of the matrix products; weights and losses are float32 either way."""
        return _compute_dtype(self.config.train, self.device)

    def advance(self, data: StepData) -> None:
        """The step is over, taken or skipped."""
        self.step += 1
        self.images += data.n_images
        self.lanes = data.states

    def save(self) -> Path:
        """Write a checkpoint of this moment."""
        return checkpoint.save(
            self.folder / CHECKPOINTS,
            checkpoint.Checkpoint(self.step, dict(self._tensors()), self._state()),
            self.config.train.keep_checkpoints,
        )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.state_dict().items()
        for parameter, name in _names_of(self.model).items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield f"optimizer.{key}.{name}", value

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "images": self.images,
            "images_per_step": self.images_per_step,
            "lanes": {str(number): asdict(state) for number, state in self.lanes.items()},
            "guard": asdict(self.guard),
            "dataset": self.dataset.manifest_sha256,
            "config": self.config.model_dump(mode="json"),
            "aqqua": aqqua.__version__,
        }

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Continue exactly where a checkpoint was written.

        Raises:
            ValueError: the checkpoint is of another dataset, another model, or another order of the data.
        """
        state = saved.state
        if state["dataset"] != self.dataset.manifest_sha256:
            raise ValueError(
                f"resume: the dataset must be the one the run began with, got another {self.dataset.path}; "
                "give the old one, or start a new run folder"
            )
        problem = _other_order(state["config"], self.config)
        if problem:
            raise ValueError(
                f"resume: the order of the images must stay as the run began, got {problem}; "
                "put it back, or start a new run folder"
            )
        weights = {k: v for k, v in saved.tensors.items() if not k.startswith("optimizer.")}
        problem = _mismatch(self.model.state_dict(), weights)
        if problem:
            raise ValueError(
                f"resume: the checkpoint must fit the model of the config, got {problem}; use its config"
            )
        self.model.load_state_dict(weights)
        self._restore_optimizer(saved.tensors)
        self.step, self.images = state["step"], state["images"]
        self.images_per_step = state["images_per_step"]
        self.lanes = {int(number): LaneState(**lane) for number, lane in state["lanes"].items()}
        self.guard = FiniteGuard(**state["guard"])

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        for parameter, name in _names_of(self.model).items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors.get(f"optimizer.{key}.{name}")
                if value is not None:
                    counts = key == "step" and not self.optimizer.defaults["fused"]
                    # A copy: as loaded, tensors are views into a file that is deleted later.
                    device = torch.device("cpu") if counts else self.device
                    self.optimizer.state[parameter][key] = value.to(device, copy=True)


def _names_of(model: torch.nn.Module) -> dict[torch.nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def _mismatch(wanted: dict[str, Tensor], got: dict[str, Tensor]) -> str | None:
    missing, extra = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
    if missing or extra:
        return f"missing {missing[:3]}, unknown {extra[:3]}"
    shapes = [k for k in wanted if wanted[k].shape != got[k].shape]
    return f"other shapes of {shapes[:3]}" if shapes else None


def _other_order(saved: dict[str, Any], config: PretrainConfig) -> str | None:
    """A setting without which the lanes' three integers mean other images, and how it has changed."""
    was = {"seed": saved["seed"], **{f"data.{name}": saved["data"][name] for name in _ORDER}}
    now = {"seed": config.seed, **{f"data.{name}": getattr(config.data, name) for name in _ORDER}}
    changed = [f"{name} {now[name]} instead of {was[name]}" for name in was if was[name] != now[name]]
    return ", ".join(changed) or None


def open_run(config: PretrainConfig) -> Run:
    """Build model, optimizer and data; continue from the newest checkpoint if there is one.

    Raises:
        ValueError: no such dataset, a checkpoint that does not fit, or only broken checkpoints.
    """
    device = _set_up_device(config.train)
    serving(config, device, _compute_dtype(config.train, device))  # refuses before anything is written
    saved = checkpoint.load_newest(config.run / CHECKPOINTS)
    dataset = Dataset.open(config.data.path)
    torch.manual_seed(config.seed)  # of the initial weights; everything later is counter-based
    model = SelfSupervised(config.model, config.objective)
    if config.init is not None and saved is None:
        model.start_from(load_backbone(config.init, config.model))
    model = model.to(device)
    optimizer = make_optimizer(
        parameter_groups(model.student, config.model.layers, config.optim), config.optim
    )
    shape = Shape.of(config.model, config.views, _compute_dtype(config.train, device))
    feeder = Feeder(dataset, config.data, config.views, config.masks, shape, seed=config.seed, device=device)
    rows = dataset.rows * (1 - config.data.holdout)
    images_total = config.train.images or max(int(rows * (config.train.epochs or 1)), 1)
    run = Run(
        config, config.run, dataset, model, optimizer, feeder, device, feeder.images_per_step(), images_total,
        feeder.start(),
    )  # fmt: skip
    if saved is not None:
        run.restore(saved)
    if serving_step(config.optim, device) == "triton":
        run.fused = FusedStep.of(optimizer, model.student, model.teacher)
    describe(run.folder, config, device, dataset.manifest_sha256)
    return run


def _set_up_device(train: TrainConfig) -> torch.device:
    """Threads and determinism of this process, and the device that serves."""
    if train.threads:
        torch.set_num_threads(train.threads)
    if train.deterministic:  # cuBLAS reads it at its first call
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(train.deterministic)
    if train.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"pretrain: train.device=cuda needs a CUDA device, got none with torch {torch.__version__}; "
            "use train.device=auto, or see aqqua doctor"
        )
    if train.device != "auto":
        return torch.device(train.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _compute_dtype(train: TrainConfig, device: torch.device) -> torch.dtype:
    half = train.precision == "bfloat16" or (train.precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32
