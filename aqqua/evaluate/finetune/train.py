"""Fine-tuning: a head, and with it the backbone if wished, learnt from labelled images.

A validation part, whole groups of the images given, says after each epoch whether it got better; the best
weights are kept, and after `patience_epochs` without a better score it stops. The same seed gives the same
weights. Nothing is saved on the way: it takes minutes to hours, and what was cut off begins again.

Letters: N labelled images, B of a pack, M validation images, D width, O outputs of the head.
Test: tests/evaluate/finetune/test_train.py.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aqqua.evaluate.features import Embedder, pack_features, pooled
from aqqua.evaluate.finetune.balance import copies
from aqqua.evaluate.finetune.calibrate import TEMPERATURES, fit_thresholds, with_errors
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.groups import rows_set_apart
from aqqua.evaluate.finetune.heads import LinearHead, TraitHead
from aqqua.evaluate.finetune.images import Images, drawn_order
from aqqua.evaluate.finetune.lora import add_lora, merge_lora
from aqqua.evaluate.finetune.objective import Objective, SpeciesObjective, TraitObjective
from aqqua.evaluate.finetune.traits import Trait
from aqqua.evaluate.metrics.temperature import temperature_of_logits
from aqqua.model.vit import VisionTransformer
from aqqua.progress import silent
from aqqua.store.read import Dataset
from aqqua.store.split import NAMING, group_names
from aqqua.train.optim import apply_schedules, clip_gradients, make_optimizer, parameter_groups
from aqqua.train.schedule import Schedule

MOST_FOR_STANDARD = 8192  # training images whose features say what 0 and 1 are

Advance = Callable[[int, int, str], None]


def unwatched(_done: int, _total: int, _note: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Finetuned:
    """What was learnt, at its best epoch."""

    backbone: VisionTransformer  # merged; the one given where it was frozen
    head: LinearHead
    traits: tuple[Trait, ...]  # () of species
    temperature: float
    thresholds: tuple[float, ...] | None
    validation: np.ndarray  # which of the images given were set apart to stop by
    metrics: dict[str, Any]  # score, its name, epochs, and each epoch's loss and score


@dataclass
class _Best:
    """The best epoch so far, and the weights of it."""

    score: float = -math.inf
    epoch: int = -1
    weights: dict[str, Tensor] | None = None


def finetune(
    embedder: Embedder,
    dataset: Dataset,
    row_N: np.ndarray,
    objective: Objective,
    config: FinetuneConfig,
    advance: Advance = unwatched,
) -> Finetuned:
    """Learn from some images of a dataset; nothing else of it is looked at.

    Args:
        embedder: backbone and how images are shown; left as it is. Its pooling is not used: config's is.
        row_N: images to learn from and to stop by. Test images must not be among them.
        objective: what is to be learnt of each.
        advance: called with (images done, of how many at most, a note).

    Raises:
        ValueError: no group can be set apart, none of its images has a value, or the LoRA does not fit.
        RuntimeError: the loss is not finite.
    """
    names = group_names(dataset.table(NAMING).take(row_N))
    validation_N = rows_set_apart(names, objective.label_N, config.validation_share, config.seed)
    train, validation = np.flatnonzero(~validation_N), np.flatnonzero(validation_N)
    objective.learn_from(train)
    objective.stop_by(validation)
    backbone = embedder.backbone
    if config.mode != "frozen":
        backbone = copy.deepcopy(backbone)
    if config.mode == "lora":
        add_lora(backbone, config.lora, config.seed)
    images = Images.of(dataset, row_N, embedder.views, config)
    run = _Run(replace(embedder, backbone=backbone, pooling=config.pooling), images, objective, config)
    run.prepare(train, advance)
    history = run.learn(train, validation, advance)
    if config.mode == "lora":
        merge_lora(backbone)
    return _finished(run, validation, history)


class _Run:
    """One fine-tuning under way."""

    def __init__(
        self, embedder: Embedder, images: Images, objective: Objective, config: FinetuneConfig
    ) -> None:
        self.embedder, self.images, self.objective, self.config = embedder, images, objective, config
        self.head = objective.make_head(embedder.width).to(embedder.device)
        self.best = _Best()
        self._frozen_ND: Tensor | None = None

    def prepare(self, train: np.ndarray, advance: Advance) -> None:
        """Standardise the head; where the backbone is frozen, look at every image once and for all."""
        if self.config.mode == "frozen":
            everyone = np.arange(len(self.images.row_N))
            self._frozen_ND = self._see(everyone, self._looking(train, len(everyone), advance))
            self.head.standardise(self._plain(train))
            return
        first = train[:: math.ceil(len(train) / MOST_FOR_STANDARD)]
        self.head.standardise(self._see(first, self._looking(train, len(first), advance)))

    def _looking(self, train: np.ndarray, images: int, advance: Advance) -> Callable[[int], None]:
        total = len(train) * self.config.epochs
        return lambda done: advance(0, total, f"features of {done} of {images} images")

    def learn(self, train: np.ndarray, validation: np.ndarray, advance: Advance) -> list[dict[str, float]]:
        """All epochs, until one is the last; leaves the best weights in place."""
        config, history = self.config, []
        optimizer, steps = self._optimizer(), self._expected_steps(train)
        rate = Schedule(
            1.0, 0.0, steps * config.epochs, warmup=config.optim.warmup_share * steps * config.epochs
        )
        decay, step, done = config.optim.weight_decay, 0, 0
        total = len(train) * config.epochs
        for epoch in range(config.epochs):
            losses: list[float] = []
            for parts, index_I in self._steps(train, epoch):
                lr = rate.at(step)
                apply_schedules(optimizer, lr, decay, lr)
                losses.append(self._take_step(optimizer, parts, index_I, epoch, step))
                step, done = step + 1, done + len(index_I)
                advance(min(done, total), total, f"epoch {epoch + 1}, loss {losses[-1]:.3f}")
            score = self.objective.score(self.head, self.outputs(validation), validation)
            history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "score": score})
            advance(min(done, total), total, f"epoch {epoch + 1}, {self.objective.score_name} {score:.3f}")
            if score > self.best.score:
                self.best = _Best(score, epoch, self._weights())
            elif epoch - self.best.epoch >= config.patience_epochs:
                break
        self._restore()
        return history

    def _take_step(
        self,
        optimizer: torch.optim.Optimizer,
        parts: Iterable[tuple[Tensor, np.ndarray]],
        index_I: np.ndarray,
        epoch: int,
        step: int,
    ) -> float:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for features_BD, index_B in parts:
            loss = self.objective.loss(self.head, self.head(features_BD), index_B).sum() / len(index_I)
            loss.backward()
            total += float(loss.detach())
        norms = clip_gradients(self._modules(), self.config.optim.clip_grad)
        if not all(map(math.isfinite, (total, *norms.values()))):
            raise RuntimeError(
                f"finetune: loss and gradient must be finite, got loss {total} and gradient norms {norms} at "
                f"step {step} of epoch {epoch + 1}; lower optim.head_lr and optim.backbone_lr, or look at "
                "the weights that it began from"
            )
        optimizer.step()
        return total

    def _modules(self) -> dict[str, nn.Module]:
        return {"head": self.head, "backbone": self.embedder.backbone}

    def _optimizer(self) -> torch.optim.AdamW:
        optim, layers = self.config.optim, self.embedder.backbone.config.layers
        known = optim.groups()
        groups = parameter_groups(nn.ModuleDict({"head": self.head}), layers, known)
        for group in groups:
            group["lr_multiplier"] = optim.head_lr
        if self.config.mode != "frozen":
            whole = nn.ModuleDict({"backbone": self.embedder.backbone})
            for group in parameter_groups(whole, layers, known):
                group["lr_multiplier"] *= optim.backbone_lr
                groups.append(group)
        return make_optimizer(groups, known)

    def _repeats(self, train: np.ndarray, epoch: int) -> np.ndarray:
        repeats_N = self.objective.repeats()
        if repeats_N is None:
            return np.ones(len(train), np.int64)
        return copies(repeats_N[train], self.images.key_N[train], self.config.seed, epoch)

    def _expected_steps(self, train: np.ndarray) -> int:
        return max(math.ceil(len(train) / self.config.batch_images), 1)

    def _steps(
        self, train: np.ndarray, epoch: int
    ) -> Iterable[tuple[Iterable[tuple[Tensor, np.ndarray]], np.ndarray]]:
        """Of each step the features of its images, pack by pack as they are asked for, and which they are."""
        repeats_n = self._repeats(train, epoch)
        if self._frozen_ND is not None:
            order = train[drawn_order(self.images.key_N[train], repeats_n, self.config.seed, epoch).index]
            for start in range(0, len(order), self.config.batch_images):
                index_I = order[start : start + self.config.batch_images]
                yield [(self._frozen_ND[torch.from_numpy(index_I)], index_I)], index_I
            return
        backbone, device = self.embedder.backbone, self.embedder.device
        for step in self.images.steps(backbone, train, repeats_n, epoch):
            seen = (
                (pooled(*pack_features(backbone, pack, pixels, device), self.config.pooling), index_B)
                for pack, pixels, index_B in step.packs
            )
            yield seen, step.index_I

    def _see(self, which: np.ndarray, progress: Callable[[int], None] = silent) -> Tensor:
        of, pooling = self.embedder, self.config.pooling
        return self.images.features(of.backbone, pooling, which, of.device, progress)

    def _plain(self, which: np.ndarray) -> Tensor:
        """Features of images as they are."""
        return self._see(which) if self._frozen_ND is None else self._frozen_ND[torch.from_numpy(which)]

    @torch.no_grad()
    def outputs(self, which: np.ndarray) -> Tensor:
        """What the head says of images as they are."""
        return self.head(self._plain(which))

    def _weights(self) -> dict[str, Tensor]:
        return {
            f"{part}.{name}": p.detach().clone()
            for part, module in self._modules().items()
            for name, p in module.named_parameters()
            if part == "head" or (self.config.mode != "frozen" and p.requires_grad)
        }

    @torch.no_grad()
    def _restore(self) -> None:
        assert self.best.weights is not None
        for part, module in self._modules().items():
            for name, p in module.named_parameters():
                if (kept := self.best.weights.get(f"{part}.{name}")) is not None:
                    p.copy_(kept)


def _finished(run: _Run, validation: np.ndarray, history: list[dict[str, float]]) -> Finetuned:
    """The best weights, calibrated on the validation images."""
    objective, outputs = run.objective, run.outputs(validation)
    temperature, thresholds = 1.0, None
    traits: tuple[Trait, ...] = ()
    metrics: dict[str, Any] = {
        "score_name": objective.score_name,
        "score": run.best.score,
        "best_epoch": run.best.epoch + 1,
        "epochs": len(history),
        "train_images": len(run.images.row_N) - len(validation),
        "validation_images": len(validation),
        "history": history,
    }
    if isinstance(objective, SpeciesObjective):
        logits_MC, label_M = outputs.double().cpu().numpy(), objective.label_N[validation]
        temperature = temperature_of_logits(label_M, logits_MC, TEMPERATURES)
        probabilities = torch.from_numpy(logits_MC / temperature).softmax(dim=1).numpy()
        thresholds = fit_thresholds(probabilities, label_M)
    if isinstance(objective, TraitObjective):
        assert isinstance(run.head, TraitHead)
        answer_MT = run.head.answer(outputs).cpu().numpy()
        truth_MT = objective.coded_NT[torch.from_numpy(validation)].numpy()
        traits = tuple(
            with_errors(trait, truth_MT[:, t], answer_MT[:, t]) for t, trait in enumerate(objective.traits)
        )
        metrics["scores"] = objective.scores(run.head, outputs, validation)
    head, backbone = run.head.cpu().eval(), run.embedder.backbone.eval()
    return Finetuned(backbone, head, traits, temperature, thresholds, validation, metrics)
