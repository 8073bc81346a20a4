"""One optimizer step, from packs to a moved teacher; or, if anything is not finite, to nothing at all.

Every rank does this with the packs of its lanes. What they find together (targets, losses, gradients) is the
same on all of them, so all take the step or none does.
Test: tests/train/test_step.py.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from aqqua.kernels.prototype_loss import Projected
from aqqua.objective.losses import Beside, Losses
from aqqua.objective.sinkhorn import Assignment
from aqqua.objective.ssl import Batch, TeacherLogits
from aqqua.train.data import StepData
from aqqua.train.neighbours import neighbours_among
from aqqua.train.run import Run
from aqqua.train.schedule import Rates, rising
from aqqua.train.spans import span

ENTROPY_ROWS = 64  # of a pack: float32 probabilities of all of them are the [B, K] that kernels never store


@dataclass(frozen=True)
class Outcome:
    """What one step gave."""

    losses: dict[str, float]  # dino, ibot, koleo, total and more; of the whole step, over all ranks
    grad_norms: dict[str, float]  # of each sub-module, before clipping
    teacher_entropy: float  # nats, mean over the first ENTROPY_ROWS DINO targets of this rank's first pack
    taken: bool  # False: not finite, nothing was changed
    n_images: int  # of all ranks


def rates_at(run: Run) -> Rates:
    """The schedules at this point of the run."""
    optim, teacher, at, steps = run.config.optim, run.config.teacher, run.nominal_step, run.nominal_steps
    objective, share = run.config.objective, min(at / steps, 1.0)
    copies = 0 if objective.gram is None else objective.gram.copies_at(share)
    return Rates(
        lr=optim.learning_rate(steps, run.images_per_step).at(at),
        last_layer_lr=optim.last_layer_learning_rate(steps, run.images_per_step).at(at),
        weight_decay=optim.weight_decay(steps).at(at),
        momentum=teacher.momentum(steps).at(at),
        temperature=teacher.temperature(steps).at(at),
        koleo_weight=rising(objective.koleo_weight, objective.koleo_warmup_share, steps).at(at),
        gram_weight=objective.gram.weight if objective.gram and copies else 0.0,
        gram_copies=copies,
        guiding=objective.guiding.strength(share) if objective.guides else 0.0,
    )


def take_step(run: Run, data: StepData, rates: Rates) -> Outcome:
    """Teacher over all packs, targets, student pack by pack, optimizer, teacher follows."""
    engine = run.engine
    n_images, *known = map(sum, zip(*run.ranks.table([data.n_images, *data.known]), strict=True))
    engine.clear()
    if run.model.gram is not None:
        run.model.gram.follow(run.model.teacher.backbone, rates.gram_copies)
    run.stragglers.forward()
    with _mixed_precision(run):
        with span("teacher"):
            taught = [engine.teach(batch) for batch in data.batches]
        run.stragglers.exchange()
        with span("sinkhorn"):
            targets = run.model.targets(taught, rates.temperature, run.ranks.all_reduce)
    others = _beside(run, data, rates, tuple(known))

    def learn(batch: Batch, logits: TeacherLogits, beside: Beside) -> Losses:
        with span("student"), _mixed_precision(run):
            return engine.learn(batch, logits, targets, n_images, rates.koleo_weight, beside)

    packs = zip(data.batches, taught, others, strict=True)
    losses = engine.backward([partial(learn, *pack) for pack in packs])
    entropy = _entropy(taught[0], targets.dino)
    grad_norms, taken = engine.move(losses, rates, run.guard.admits)
    values = {name: float(value) for name, value in losses.by_name.items()}
    return Outcome(values, grad_norms, entropy, taken, n_images)


def _beside(run: Run, data: StepData, rates: Rates, known_Q: tuple[int, ...]) -> list[Beside]:
    """What each pack is told of the step for the terms that are off by default."""
    fixed = (rates.gram_weight, rates.guiding, known_Q)
    objective = run.config.objective
    if not objective.spreads:
        return [Beside(*fixed)] * len(data.batches)
    with span("survey"):
        with _mixed_precision(run):
            unit = [run.model.survey(batch) for batch in data.batches]
        images = [batch.image_I for batch in data.batches]
        reach = (objective.koleo_lanes, objective.koleo_neighbours)
        found = neighbours_among(unit, images, run.ranks, *reach)
    return [Beside(*fixed, neighbours) for neighbours in found]


def image_ids(run: Run, data: StepData) -> list[str]:
    """Ids of this rank's images of a step, for the record of skipped steps."""
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
