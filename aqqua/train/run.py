"""A run on disk and in memory: what is built at the start, saved at a checkpoint, found again on resume.

Test: tests/train/test_run.py.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aqqua
from aqqua.model.weights import load_backbone
from aqqua.objective.gram_teacher import from_teacher
from aqqua.objective.ssl import Followed, SelfSupervised
from aqqua.plan.lanes import LaneState, lanes_of_rank
from aqqua.store.read import Dataset
from aqqua.train import checkpoint
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder, StepData
from aqqua.train.distill import follow
from aqqua.train.engine import Engine, PlainEngine
from aqqua.train.folder import CHECKPOINTS, describe
from aqqua.train.fused import FusedStep, serving_step
from aqqua.train.guard import FiniteGuard, check_replicas
from aqqua.train.optim import make_optimizer, parameter_groups
from aqqua.train.ranks import Ranks
from aqqua.train.serving import serving
from aqqua.train.settings import PretrainConfig, TrainConfig
from aqqua.train.spike import Spikes
from aqqua.train.straggler import Stragglers
from aqqua.train.told import with_names
from aqqua.train.zero import ZeroEngine

_ORDER = ("lanes", "window_blocks", "holdout")  # of data: what, beside the seed, sets the order of images
_NEEDED = ("step", "images", "images_per_step", "lanes", "guard", "dataset", "config")  # of a checkpoint


@dataclass
class Run:
    """Everything that changes while training, and the machinery around it."""

    config: PretrainConfig
    folder: Path
    dataset: Dataset
    engine: Engine
    feeder: Feeder
    device: torch.device
    images_per_step: float  # expected; makes progress in images into progress in steps
    images_total: int
    lanes: dict[int, LaneState]  # of this rank
    ranks: Ranks
    step: int = 0
    images: int = 0  # of all ranks
    guard: FiniteGuard = field(default_factory=FiniteGuard)
    spikes: Spikes = field(default_factory=Spikes)
    rollbacks: list[list[int]] = field(default_factory=list)  # [at step, to step] of each so far
    changed: list[str] = field(default_factory=list)  # settings that are others than the checkpoint's
    stopped_by: str | None = None  # the signal that ended the training of this process
    stragglers: Stragglers = field(init=False)

    def __post_init__(self) -> None:
        self.stragglers = Stragglers(self.ranks, self.device)

    @property
    def model(self) -> SelfSupervised:
        """Student and teacher."""
        return self.engine.model

    @property
    def nominal_step(self) -> float:
        """Progress in steps of equal image counts; what the schedules follow."""
        return self.images / self.images_per_step

    @property
    def nominal_steps(self) -> float:
        return max(self.images_total / self.images_per_step, 1.0)

    @property
    def weights_sha256(self) -> str | None:
        """Names the sampling weights; None where there are none."""
        sampling = self.feeder.sampling
        return None if sampling is None else sampling.sha256

    @property
    def followed_sha256(self) -> str | None:
        """Names the network that is distilled; None where none is."""
        return None if self.model.followed is None else self.model.followed.sha256

    @property
    def done(self) -> bool:
        return self.images >= self.images_total

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of the matrix products; weights and losses are float32 either way."""
        return _compute_dtype(self.config.train, self.device)

    def advance(self, data: StepData, n_images: int) -> None:
        """The step is over, taken or skipped; it had so many images on all ranks."""
        self.step += 1
        self.images += n_images
        self.lanes = data.states

    def save(self) -> None:
        """Write a checkpoint of this moment: rank 0, from what all of them have.

        Raises:
            DivergedError: the ranks do not have the same weights.
            OSError: the disk refused; on every rank.
        """
        self.check_replicas()
        saved = checkpoint.Checkpoint(self.step, dict(self.engine.tensors()), self._state())
        folder, keep = self.folder / CHECKPOINTS, self.config.train.keep_checkpoints
        self.ranks.on_first(lambda: checkpoint.save(folder, saved, keep))

    def save_if_possible(self, say: Callable[[str], None]) -> None:
        """A disk that is full now must not cost the hours since: say so and train on.

        Raises:
            DivergedError: the ranks do not have the same weights.
        """
        try:
            self.save()
        except OSError as error:
            say(f"no checkpoint of step {self.step} ({error}); training goes on, those before are untouched")

    def check_replicas(self) -> None:
        """Compare what all ranks must hold alike.

        Raises:
            DivergedError: they do not.
        """
        check_replicas(self.step, self.engine.replicas(), self.ranks)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "images": self.images,
            "images_per_step": self.images_per_step,
            "lanes": self.places(),
            "guard": asdict(self.guard),
            "spikes": asdict(self.spikes),
            "rollbacks": self.rollbacks,
            "dataset": self.dataset.manifest_sha256,
            "weights": self.weights_sha256,
            "distill": self.followed_sha256,
            "config": self.config.model_dump(mode="json"),
            "aqqua": aqqua.__version__,
        }

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Continue exactly where a checkpoint was written.

        Raises:
            ValueError: the checkpoint is incomplete, of another dataset, another model, or another order of
                the data.
        """
        state = saved.state
        if missing := [name for name in _NEEDED if name not in state]:
            raise ValueError(
                f"resume: a checkpoint must say {', '.join(_NEEDED)}, got none of {', '.join(missing)}; "
                "use the aqqua that wrote it, or another checkpoint"
            )
        if state["dataset"] != self.dataset.manifest_sha256:
            raise ValueError(
                f"resume: the dataset must be the one the run began with, got another {self.dataset.path}; "
                "give the old one, or start a new run folder"
            )
        if state.get("weights") != self.weights_sha256:
            raise ValueError(
                "resume: the sampling weights must be those the run began with, got "
                f"{self.config.data.weights or 'none'}; put data.weights back, or start a new run folder"
            )
        if state.get("distill") != self.followed_sha256:
            raise ValueError(
                "resume: distill.teacher must be the network that the run began with, "
                f"{'none' if state.get('distill') is None else state['distill'][:12]}, got "
                f"{self.config.distill.teacher if self.config.distill else 'none'} "
                f"({(self.followed_sha256 or 'none')[:12]}); name the checkpoint it was "
                "(RUN/checkpoints/step-...), leave it out, or start a new run folder"
            )
        problem = _other_order(state["config"], self.config)
        if problem:
            raise ValueError(
                f"resume: the order of the images must stay as the run began, got {problem}; "
                "put it back, or start a new run folder"
            )
        tensors = from_teacher(saved.tensors, self.engine.shapes)
        weights = {k: v for k, v in tensors.items() if not k.startswith("optimizer.")}
        problem = _mismatch(self.engine.shapes, weights)
        if problem:
            raise ValueError(
                f"resume: the checkpoint must fit the model of the config, got {problem}; use its config"
            )
        self.engine.load(tensors)
        self.step, self.images = state["step"], state["images"]
        self.images_per_step = state["images_per_step"]
        self.lanes = {number: LaneState(**state["lanes"][str(number)]) for number in self.feeder.packers}
        self.guard = FiniteGuard(**state["guard"])
        self.spikes = Spikes.of(state.get("spikes"))
        self.rollbacks = state.get("rollbacks", [])
        self.changed = _changed(state["config"], self.config.model_dump(mode="json"))

    def go_back(self, saved: checkpoint.Checkpoint) -> None:
        """What was learned is a checkpoint's of this run again; the step and the lanes' places stay."""
        self.engine.load(from_teacher(saved.tensors, self.engine.shapes))
        self.images = saved.state["images"]
        self.spikes = Spikes.of(saved.state.get("spikes"))
        self.guard.streak = 0
        self.rollbacks = [*self.rollbacks, [self.step, saved.step]]

    def places(self) -> dict[str, dict[str, int]]:
        """Where the lanes of all ranks stand, by their numbers."""
        mine = [[number, *astuple(state)] for number, state in self.lanes.items()]
        everyone = [row for rows in self.ranks.gather(mine) for row in rows]
        return {str(number): asdict(LaneState(*state)) for number, *state in sorted(everyone)}


def _changed(was: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of settings that both have and that differ; not where run and data lie."""
    found = []
    for name in was.keys() & now.keys() - {"run", "path"}:
        if isinstance(was[name], dict) and isinstance(now[name], dict):
            found += _changed(was[name], now[name], f"{prefix}{name}.")
        elif was[name] != now[name]:
            found.append(prefix + name)
    return sorted(found)


def _mismatch(wanted: dict[str, torch.Size], got: dict[str, Tensor]) -> str | None:
    missing, extra = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
    if missing or extra:
        return f"missing {missing[:3]}, unknown {extra[:3]}"
    shapes = [k for k in wanted if wanted[k] != got[k].shape]
    return f"other shapes of {shapes[:3]}" if shapes else None


def _other_order(saved: dict[str, Any], config: PretrainConfig) -> str | None:
    """A setting without which the lanes' three integers mean other images, and how it has changed."""
    was = {"seed": saved["seed"], **{f"data.{name}": saved["data"][name] for name in _ORDER}}
    now = {"seed": config.seed, **{f"data.{name}": getattr(config.data, name) for name in _ORDER}}
    changed = [f"{name} {now[name]} instead of {was[name]}" for name in was if was[name] != now[name]]
    return ", ".join(changed) or None


def open_run(config: PretrainConfig, ranks: Ranks | None = None) -> Run:
    """Build model, optimizer and data; continue from the newest checkpoint if there is one.

    Raises:
        ValueError: no such dataset, a checkpoint that does not fit, only broken checkpoints, or a number of
            ranks that does not divide the lanes.
    """
    ranks = ranks or Ranks()
    device = _set_up_device(config.train, ranks)
    dtype = _compute_dtype(config.train, device)
    serving(config, device, dtype)  # refuses before anything is written
    lanes_of_rank(config.data.lanes, ranks.rank, ranks.size)  # so does this
    saved = checkpoint.read_together(lambda: checkpoint.load_newest(config.run / CHECKPOINTS), ranks, device)
    dataset = Dataset.open(config.data.path)
    config = config.model_copy(update={"objective": with_names(config.objective, dataset)})
    engine = _make_engine(config, ranks, device, follow(config, ranks, device), fresh=saved is None)
    guides, drop_path = config.objective.guides, config.distill is None
    shape = Shape.of(config.model, config.views, dtype, guides, drop_path)
    feeder = Feeder(
        dataset, config.data, config.views, config.hidden, shape, seed=config.seed, device=device,
        rank=ranks.rank, ranks=ranks.size,
    )  # fmt: skip
    images_total = config.train.images or max(int(feeder.images_per_epoch * (config.train.epochs or 1)), 1)
    run = Run(
        config, config.run, dataset, engine, feeder, device, feeder.images_per_step(), images_total,
        feeder.start(), ranks,
    )  # fmt: skip
    if saved is not None:
        run.restore(saved)
    if isinstance(engine, PlainEngine) and serving_step(config.optim, device) == "triton":
        engine.fused = FusedStep.of(engine.optimizer, engine.model.student, engine.model.teacher)
    shas = {
        "dataset_sha256": dataset.manifest_sha256,
        "weights_sha256": run.weights_sha256,
        "distill_sha256": run.followed_sha256,
    }
    ranks.on_first(lambda: describe(run.folder, config, device, shas, ranks.size))
    return run


def _make_engine(
    config: PretrainConfig, ranks: Ranks, device: torch.device, followed: Followed | None, fresh: bool
) -> Engine:
    """Weights as at the start of a run, the same on all ranks, and what will move them."""
    torch.manual_seed(config.seed)  # of the initial weights; everything later is counter-based
    model = SelfSupervised(config.model, config.objective, followed)
    if config.init is not None and fresh:
        model.start_from(load_backbone(config.init, config.model))
    model = model.to(device)
    if config.train.engine == "zero":
        half = _compute_dtype(config.train, device) == torch.bfloat16
        return ZeroEngine(
            model, config.train.zero, config.optim, lanes=config.data.lanes, half=half, ranks=ranks
        )
    groups = parameter_groups(model.student, config.model.layers, config.optim)
    way = "lane order" if config.train.deterministic else config.train.gradient_sum
    return PlainEngine(model, make_optimizer(groups, config.optim), config.optim.clip_grad, ranks, way)


def _set_up_device(train: TrainConfig, ranks: Ranks) -> torch.device:
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
    if train.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # Alone, PyTorch's current device: it may have been chosen outside.
    return torch.device("cuda", torch.cuda.current_device()) if ranks.size > 1 else torch.device("cuda")


def _compute_dtype(train: TrainConfig, device: torch.device) -> torch.dtype:
    half = train.precision == "bfloat16" or (train.precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32
