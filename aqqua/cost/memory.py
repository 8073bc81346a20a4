"""Bytes on one GPU, part by part. Letters: P parameters, N ranks. Test: tests/cost/test_memory.py."""

from dataclasses import dataclass

from aqqua.cost.activations import (
    PackShape,
    Saving,
    loss_work_bytes,
    pack_bytes,
    spread_bytes,
    teacher_bytes,
)
from aqqua.cost.engines import Engine
from aqqua.cost.parameters import Parameters
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: float
    gradients: float  # and their sums over packs and ranks
    optimizer: float  # of it what is not in the memory of the host
    teacher: float  # and the Gram teacher, which no engine divides
    copies: float  # weights as products take them, gathered weights, buckets of collectives
    inputs: float  # patch rows of all packs of a rank
    activations: float  # of one pack
    teacher_logits: float  # of all packs of a rank, as Sinkhorn waits; and CLS of all lanes, for their KoLeo
    losses: float  # for a moment, at the end of a pack's forward pass

    @property
    def total(self) -> float:
        return sum(vars(self).values())

    @property
    def model(self) -> float:
        """What does not depend on the packs."""
        return self.weights + self.gradients + self.optimizer + self.teacher + self.copies


def memory(
    engine: Engine,
    parameters: Parameters,
    model: ModelConfig,
    objective: ObjectiveConfig,
    pack: PackShape,
    saving: Saving,
    ranks: int,
    packs: int,
) -> Memory:
    """Of one of `ranks` GPUs that takes `packs` packs a step."""
    P, c, anchored = parameters.total, saving.compute_bytes, objective.gram is not None
    gathered = parameters.largest * (4 + engine.teacher) if "weights" in engine.divided and ranks > 1 else 0
    return Memory(
        weights=P * engine.share("weights", ranks),
        gradients=P * (engine.share("gradients", ranks) + engine.sums_of(ranks, packs)),
        optimizer=0.0 if engine.offload else P * engine.share("optimizer", ranks),
        teacher=P * engine.share("teacher", ranks) + (4 * parameters.backbone if anchored else 0),
        copies=P * (engine.copies if c < 4 else 0) + engine.bucket_bytes(P) + gathered,
        inputs=(packs - 1) * pack.patches * model.patch_values * c,  # this pack's are among its activations
        activations=pack_bytes(model, objective, pack, saving),
        teacher_logits=packs * teacher_bytes(objective, pack, saving)
        + packs * ranks * spread_bytes(model, objective, pack),
        losses=loss_work_bytes(objective, pack, saving),
    )


def checkpoint_bytes(parameters: Parameters, objective: ObjectiveConfig | None = None) -> int:
    """On disk: student, teacher and two moments in float32, whatever the engine; and the Gram teacher."""
    gram = objective is not None and objective.gram is not None
    return 16 * parameters.total + 4 * parameters.backbone * gram
