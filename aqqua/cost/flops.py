"""Floating-point operations of matrix products, module by module, as torch's counter counts them.

A product of m×k by k×n counts 2·m·k·n. Forward; backward takes twice that, but for the first layers, whose
input wants no gradient. What is computed a second time (checkpointing, recomputed logits) is not useful and
counted apart.

Letter key: D width, F hidden width, L layers, n tokens of a view, h hidden width of a head, Z bottleneck, K
prototypes. Test: tests/cost/test_flops.py, against torch.utils.flop_counter.
"""

from dataclasses import dataclass

from aqqua.cost.parameters import SCALE_FEATURES, heads_of
from aqqua.cost.tokens import Role, Tokens
from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig
from aqqua.objective.ssl import ObjectiveConfig

FIRST_LAYERS = ("patch_embed", "scale_first")  # nothing below them is trained


@dataclass(frozen=True)
class Flops:
    """By module, forward."""

    forward: dict[str, float]

    @property
    def forward_total(self) -> float:
        return sum(self.forward.values())

    @property
    def backward(self) -> dict[str, float]:
        """By module; first layers have no gradient of their input."""
        return {name: (1 if name in FIRST_LAYERS else 2) * value for name, value in self.forward.items()}

    @property
    def backward_total(self) -> float:
        return sum(self.backward.values())

    @property
    def training_total(self) -> float:
        return self.forward_total + self.backward_total

    def plus(self, other: "Flops") -> "Flops":
        names = dict.fromkeys([*self.forward, *other.forward])
        return Flops({name: self.forward.get(name, 0) + other.forward.get(name, 0) for name in names})

    def backward_alone(self) -> "Flops":
        """The operations of the backward pass alone, as those of a pass of its own."""
        return Flops(self.backward)


def backbone_flops(model: ModelConfig, role: Role, kept: float = 1.0) -> Flops:
    """Of views with `role`'s tokens; `kept`: the share of them that goes through each branch (drop-path)."""
    D, L, T = model.width, model.layers, role.tokens * kept
    matrices = 3 if model.ffn == "swiglu" else 2
    scale = model.scale_token * role.views
    return Flops(
        {
            "patch_embed": 2 * model.patch_values * D * role.patches(model.prefix),
            "scale_first": 2 * SCALE_FEATURES * D * scale,
            "scale_second": 2 * D * D * scale,
            "qkv": 6 * D * D * T * L,
            "attention": 4 * D * role.squares * kept * L,
            "proj": 2 * D * D * T * L,
            "ffn": 2 * matrices * D * model.ffn_width * T * L,
        }
    )


def head_flops_per_row(head: HeadConfig, width: int) -> Flops:
    """Of one row: three layers, then the product with the prototypes."""
    h, Z = head.hidden, head.bottleneck
    return Flops({"head_mlp": 2 * (width * h + h * h + h * Z), "prototypes": 2 * Z * head.prototypes})


def head_flops(objective: ObjectiveConfig, width: int, cls_rows: float, masked_rows: float) -> Flops:
    """Of CLS rows by the DINO head and hidden patches by the iBOT head, which may be the same one."""
    parts = zip(heads_of(objective), (cls_rows, masked_rows), strict=True)
    by_part = [_times(head_flops_per_row(head, width), rows) for head, rows in parts]
    return by_part[0].plus(by_part[1])


def _times(flops: Flops, factor: float) -> Flops:
    return Flops({name: factor * value for name, value in flops.forward.items()})


@dataclass(frozen=True)
class ImageFlops:
    """Of one image on average, in one step."""

    student_globals: Flops
    student_locals: Flops
    student_heads: Flops
    teacher: Flops
    teacher_heads: Flops

    @property
    def student(self) -> Flops:
        """Backbone, both roles."""
        return self.student_globals.plus(self.student_locals)

    @property
    def total(self) -> float:
        """Useful: student forward and backward, teacher forward, heads of both."""
        student = self.student.training_total + self.student_heads.training_total
        return student + self.teacher.forward_total + self.teacher_heads.forward_total


NOTHING_SEEN = Role(0, 0, 0, 0)


def seen_beside(objective: ObjectiveConfig, globals_: Role, prefix: int, gram_share: float = 1.0) -> Role:
    """Views of an image that a backbone of the student's size sees in passes of their own, without gradient,
    beside the teacher's: the Gram teacher the global ones at its scale; the student before it learns, where
    KoLeo looks beyond a pack.

    Args:
        gram_share: of the steps meant, the share that is anchored.
    """
    seen = NOTHING_SEEN
    if objective.gram is not None:
        seen = seen.plus(globals_.enlarged(objective.gram.scale, prefix).times(gram_share))
    return seen.plus(globals_) if objective.spreads else seen


@dataclass(frozen=True)
class DistilledFrom:
    """Whose answers are the targets, in distillation: a network of another size."""

    model: ModelConfig
    objective: ObjectiveConfig


def image_flops(
    model: ModelConfig,
    objective: ObjectiveConfig,
    tokens: Tokens,
    kept: float = 1.0,
    followed: DistilledFrom | None = None,
    gram_share: float = 1.0,
) -> ImageFlops:
    """Of an image with these tokens. The heads of guides are left out: two small layers for each global view.

    Args:
        kept: share of the student's views that go through a branch (tokens.kept_share).
        followed: in distillation, the teacher.
        gram_share: see seen_beside.
    """
    D, teacher = model.width, followed or DistilledFrom(model, objective)
    globals_ = tokens.teacher.with_prefix(teacher.model.prefix, model.prefix)
    beside = backbone_flops(model, seen_beside(objective, tokens.teacher, model.prefix, gram_share))
    return ImageFlops(
        backbone_flops(model, tokens.globals_, kept),
        backbone_flops(model, tokens.locals_, kept),
        head_flops(objective, D, tokens.student.views, tokens.masked),
        backbone_flops(teacher.model, globals_).plus(beside),
        head_flops(teacher.objective, teacher.model.width, globals_.views, tokens.masked),
    )


# Products with the prototypes where logits are never stored, of a teacher row and of a pair of a student row
# and a target: see the docstring of aqqua.kernels.prototype_loss. A DINO row has two targets, an iBOT row
# one.
TEACHER_PASSES, PAIR_PASSES, DINO_TARGETS = 6, 8, 2


def recomputed_flops(objective: ObjectiveConfig, tokens: Tokens) -> float:
    """What `objective.kernels=recompute` computes again, of one image: logits are made anew in every pass."""
    dino, ibot = heads_of(objective)
    pairs = (
        (dino, tokens.student.views, DINO_TARGETS, tokens.globals_.views),
        (ibot, tokens.masked, 1, tokens.masked),
    )
    again = 0.0
    for head, student_rows, targets, teacher_rows in pairs:
        product = 2 * head.bottleneck * head.prototypes
        again += product * (student_rows * (targets * PAIR_PASSES - 3) + teacher_rows * (TEACHER_PASSES - 1))
    return again
