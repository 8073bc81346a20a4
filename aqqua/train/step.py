"""One optimizer step, from packs to a moved teacher; or, if anything is not finite, to nothing at all.

Test: tests/train/test_step.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aqqua.kernels.prototype_loss import Projected
from aqqua.objective.sinkhorn import Assignment
from aqqua.objective.ssl import Losses, TeacherLogits
from aqqua.train.data import StepData
from aqqua.train.optim import apply_schedules, clip_gradients, ema_update
from aqqua.train.run import Run
from aqqua.train.schedule import rising

ENTROPY_ROWS = 64  # of a pack: float32 probabilities of all of them are the [B, K] that kernels never store


@dataclass(frozen=True)
class Rates:
    """What the schedules say of one step."""

    lr: float
    last_layer_lr: float
    weight_decay: float
    momentum: float
    temperature: float
    koleo_weight: float


@dataclass(frozen=True)
class Outcome:
    """What one step gave."""

    losses: dict[str, float]  # dino, ibot, koleo, total; of the whole step
    grad_norms: dict[str, float]  # of each sub-module, before clipping
    teacher_entropy: float  # nats, mean over the first ENTROPY_ROWS DINO targets of the first pack
    taken: bool  # False: not finite, nothing was changed


def rates_at(run: Run) -> Rates:
    """The schedules at this point of the run."""
    optim, teacher, at, steps = run.config.optim, run.config.teacher, run.nominal_step, run.nominal_steps
    objective = run.config.objective
    return Rates(
        lr=optim.learning_rate(steps, run.images_per_step).at(at),
        last_layer_lr=optim.last_layer_learning_rate(steps, run.images_per_step).at(at),
        weight_decay=optim.weight_decay(steps).at(at),
        momentum=teacher.momentum(steps).at(at),
        temperature=teacher.temperature(steps).at(at),
        koleo_weight=rising(objective.koleo_weight, objective.koleo_warmup_share, steps).at(at),
    )


def take_step(run: Run, data: StepData, rates: Rates) -> Outcome:
    """Teacher over all packs, targets, student pack by pack, optimizer, teacher follows."""
    model, optimizer = run.model, run.optimizer
    optimizer.zero_grad(set_to_none=True)
    total = Losses(*torch.zeros(4, device=run.device))
    with _mixed_precision(run):
        taught = [model.teach(batch) for batch in data.batches]
        targets = model.targets(taught, rates.temperature)
    for batch, logits in zip(data.batches, taught, strict=True):
        with _mixed_precision(run):
            losses = model.learn(batch, logits, targets, data.n_images, rates.koleo_weight)
        losses.total.backward()
        total = total.plus(losses)
    entropy = _entropy(taught[0], targets.dino)
    apply_schedules(optimizer, rates.lr, rates.weight_decay, rates.last_layer_lr)
    if run.fused is None:
        grad_norms = clip_gradients(dict(model.student.named_children()), run.config.optim.clip_grad)
    else:  # this moves everything at once, or nothing if anything is not finite
        grad_norms = run.fused.step(total.total, rates.momentum, run.config.optim.clip_grad)
    values = {name: float(value) for name, value in vars(total).items()}
    taken = run.guard.admits(values["total"], grad_norms)
    if taken and run.fused is None:
        optimizer.step()
        ema_update(model.teacher, model.student, rates.momentum)
    return Outcome(values, grad_norms, entropy, taken)


def image_ids(run: Run, data: StepData) -> list[str]:
    """Ids of all images of a step, for the record of skipped steps."""
    found: list[str] = []
    for pack in data.packs:
        blocks = {
            block: run.dataset.table(["image_id"], blocks=[block])["image_id"] for block in set(pack.block_I)
        }
        found += [blocks[b][r].as_py() for b, r in zip(pack.block_I, pack.row_I.tolist(), strict=True)]
    return found


def _mixed_precision(run: Run) -> torch.autocast:
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.compute_dtype == torch.bfloat16)


@torch.no_grad()
def _entropy(taught: TeacherLogits, assignment: Assignment) -> float:
    rows = taught.dino_BK
    if isinstance(rows, Projected):
        rows = Projected(rows.z_RZ[:ENTROPY_ROWS], rows.w_KZ)
    else:
        rows = rows[:ENTROPY_ROWS]
    probabilities: Tensor = assignment.probabilities(rows)
    return float(torch.special.entr(probabilities).sum(dim=1).mean())
