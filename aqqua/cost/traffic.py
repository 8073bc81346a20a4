"""Bytes that move between a GPU's memory and its processors, op by op.

Products are left out: their bytes hide behind their arithmetic. Of the rest each op reads and writes whole
arrays, so its bytes are counted in values of D per token and branch, or of K per head row, times the width of
a value. The residual stream is float32, what products take and give `compute_bytes` wide.

"reference" is PyTorch's operators one by one, "fused" our kernels. Reference: forward, LayerNorm reads and
writes, as LayerScale does; a residual addition reads two and writes one; drop-path gathers its rows before
and adds them after; the activation function reads and writes its hidden values.

Letter key: T tokens, D width, F hidden width, L layers, K prototypes, R student and B teacher rows, P
parameters.
Test: tests/cost/test_traffic.py.
"""

from dataclasses import dataclass

from aqqua.cost.activations import STREAM_BYTES, PackShape, Saving
from aqqua.cost.parameters import heads_of
from aqqua.cost.tokens import Role
from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig
from aqqua.objective.ssl import ObjectiveConfig


@dataclass(frozen=True)
class Moved:
    """Values of D (of the hidden width for `activation`) of one branch and token: (forward, backward)."""

    norm: tuple[float, float]
    layer_scale: tuple[float, float]
    drop_path: tuple[float, float]
    residual: tuple[float, float]


# Per branch. A block has two: over both, forward and backward together, this is 10 + 10 + 14 + 12 values of
# D; with the 20 of GELU on 4·D, the 66·D per token and layer of an unfused transformer.
REFERENCE = Moved(norm=(2, 3), layer_scale=(2, 3), drop_path=(3, 4), residual=(3, 3))
GELU = {False: (2.0, 3.0), True: (2.0, 4.0)}  # of F; fused, backward makes the activation again
SWIGLU = {False: (5.0, 13.0), True: (3.0, 6.0)}  # of F: silu, product, and the halves of one array
# One pass of our residual_norm: stream, branch and gradients (stream values, compute values).
FUSED_FORWARD, FUSED_BACKWARD = (2, 2), (3, 3)  # x, y | branch, z; and dy, y, dx | dz, branch, dbranch
ATTENTION = (4.0, 8.0)  # q, k, v -> o; q, k, v, o, do -> dq, dk, dv
ROTARY = (4.0, 4.0)  # q and k turned by a pass of its own; our kernels turn them in registers
# Bytes per value of K in a head row, (teacher, student): aqqua.objective.sinkhorn and cross_entropy operator
# by operator on bfloat16 logits, three sweeps; and our kernels (docstring of aqqua.kernels.prototype_loss).
LOSS_REFERENCE, LOSS_FUSED = (186, 108), (14, 16)
PROTOTYPE_BYTES = (18, 40)  # of a value of the prototypes per call: made of unit length and cast; and back
# Of a parameter: per pack, cast to bfloat16 for student and teacher; its gradient cast and added.
CASTS = (12.0, 18.0)
# Once a step. PyTorch: clip reads twice and writes, AdamW reads 4 and writes 3 arrays of 4 bytes, the
# teacher's lerp reads 2 and writes 1. Ours: the norm reads, then one pass reads 5 and writes 4.
OPTIMIZER_REFERENCE, OPTIMIZER_FUSED = 52, 40


@dataclass(frozen=True)
class Traffic:
    """Bytes by op of one pass over a pack."""

    ops: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.ops.values())

    def plus(self, other: "Traffic") -> "Traffic":
        names = dict.fromkeys([*self.ops, *other.ops])
        return Traffic({name: self.ops.get(name, 0.0) + other.ops.get(name, 0.0) for name in names})

    def times(self, factor: float) -> "Traffic":
        return Traffic({name: factor * value for name, value in self.ops.items()})


def backbone_traffic(model: ModelConfig, role: Role, saving: Saving, kept: float, backward: bool) -> Traffic:
    """Of the blocks, forward or backward, on views with `role`'s tokens.

    Args:
        kept: share of the tokens that goes through a branch; below 1 drop-path is on.
    """
    side = int(backward)
    T, D, F, L, c = role.tokens, model.width, model.ffn_width, model.layers, saving.compute_bytes
    hidden = (SWIGLU if model.ffn == "swiglu" else GELU)[saving.fused][side]
    ops = {
        "norm, residual": 2 * L * D * _stream_bytes(T, saving, kept, side),
        "activation function": L * F * T * kept * hidden * c,
        "attention": L * D * T * kept * ATTENTION[side] * c,
    }
    if model.position.startswith("rope") and not saving.fused:
        ops["rotary"] = L * D * T * kept * ROTARY[side] * c
    return Traffic(ops)


def _stream_bytes(tokens: float, saving: Saving, kept: float, side: int) -> float:
    """Of one branch and value of D: norm, LayerScale, drop-path, residual and the casts between them."""
    c = saving.compute_bytes
    if saving.fused:
        stream, compute = (FUSED_FORWARD, FUSED_BACKWARD)[side]
        return tokens * (stream * STREAM_BYTES + kept * compute * c)
    values = kept * (REFERENCE.norm[side] + REFERENCE.layer_scale[side]) + REFERENCE.residual[side]
    if kept < 1:
        values += REFERENCE.drop_path[side]
    casts = kept * (STREAM_BYTES + c) if c < STREAM_BYTES else 0.0
    return tokens * (values * STREAM_BYTES + casts)


def loss_traffic(objective: ObjectiveConfig, pack: PackShape, saving: Saving) -> Traffic:
    """Of targets and losses of a pack, both sides, forward and backward."""
    dino, ibot = heads_of(objective)
    calls = ((dino, pack.global_views * pack.images, pack.views), (ibot, pack.masked, pack.masked))
    logits = sum(head.prototypes * _row_bytes(saving, teacher, student) for head, teacher, student in calls)
    prototypes = sum(sum(PROTOTYPE_BYTES) * _prototype_values(head) for head, _, _ in calls)
    return Traffic({"targets and losses": logits, "prototypes": prototypes})


def _row_bytes(saving: Saving, teacher_rows: float, student_rows: float) -> float:
    """Bytes per prototype."""
    if saving.losses == "recompute":
        return 0.0
    teacher, student = LOSS_FUSED if saving.losses == "triton" else LOSS_REFERENCE
    wide = saving.compute_bytes / 2
    return wide * (teacher * teacher_rows + student * student_rows)


def _prototype_values(head: HeadConfig) -> float:
    return head.prototypes * head.bottleneck * (head.last_layer == "weight_norm")


def cast_traffic(parameters: float, saving: Saving) -> Traffic:
    """Of the weights in lower precision and of the gradients' sum, for each pack."""
    return Traffic(
        {"weight casts, gradient sums": parameters * (sum(CASTS) if saving.compute_bytes < 4 else 12.0)}
    )


def optimizer_traffic(parameters: float, fused: bool) -> Traffic:
    """Of clipping, AdamW and the teacher, once a step; divided by the ranks where they are sharded."""
    return Traffic({"optimizer, teacher": parameters * (OPTIMIZER_FUSED if fused else OPTIMIZER_REFERENCE)})
