"""What a step computes, holds and moves, whoever computes it and however long that takes.

Test: tests/cost/test_step_cost.py, tests/train/test_useful.py.
"""

from dataclasses import dataclass

from aqqua.cost.activations import PackShape, Saving
from aqqua.cost.flops import DistilledFrom, ImageFlops, image_flops, seen_beside
from aqqua.cost.parameters import Parameters, network_parameters
from aqqua.cost.tokens import Role, Tokens, kept_share
from aqqua.cost.traffic import Traffic, backbone_traffic, cast_traffic, loss_traffic, optimizer_traffic
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig


@dataclass(frozen=True)
class Workload:
    """A step of a run."""

    model: ModelConfig
    objective: ObjectiveConfig
    tokens: Tokens
    pack_tokens: int
    lanes: int
    saving: Saving
    fused_attention: bool = False
    fused_optimizer: bool = False
    followed: DistilledFrom | None = None  # in distillation, the teacher
    gram_share: float = 1.0  # of the steps meant, the share that Gram anchors, where it does

    @property
    def images_per_pack(self) -> float:
        return self.tokens.images_per_pack(self.pack_tokens)

    @property
    def images_per_step(self) -> float:
        return self.images_per_pack * self.lanes

    @property
    def pack(self) -> PackShape:
        return PackShape.of(self.tokens, self.model.prefix, self.images_per_pack)

    @property
    def parameters(self) -> Parameters:
        """Of one side, student or teacher."""
        return network_parameters(self.model, self.objective)

    @property
    def kept(self) -> float:
        """Share of the student's tokens that goes through a branch."""
        return kept_share(self.pack.views, self.model.drop_path)

    @property
    def beside(self) -> Role:
        """Views of an image in passes without gradient, the teacher's left out."""
        return seen_beside(self.objective, self.tokens.teacher, self.model.prefix, self.gram_share)

    @property
    def seen(self) -> Role:
        """Views of an image in all passes without gradient."""
        return self.tokens.teacher.plus(self.beside)

    @property
    def flops(self) -> ImageFlops:
        """Of an image."""
        return image_flops(self.model, self.objective, self.tokens, self.kept, self.followed, self.gram_share)

    def traffic(self) -> dict[str, Traffic]:
        """Bytes by pass over a pack, and of the optimizer, once a step."""
        images, student = self.images_per_pack, self.tokens.student
        theirs = self.model if self.followed is None else self.followed.model
        teacher = self.tokens.teacher.with_prefix(theirs.prefix, self.model.prefix).times(images)
        seen = backbone_traffic(theirs, teacher, self.saving, 1.0, backward=False)
        if self.beside.views:
            beside = self.beside.times(images)
            seen = seen.plus(backbone_traffic(self.model, beside, self.saving, 1.0, backward=False))
        forward = backbone_traffic(self.model, student.times(images), self.saving, self.kept, backward=False)
        backward = backbone_traffic(self.model, student.times(images), self.saving, self.kept, backward=True)
        return {
            "teacher": seen,
            "student forward": forward,
            "student backward": backward.plus(forward) if self.saving.checkpointed else backward,
            "losses": loss_traffic(self.objective, self.pack, self.saving),
            "weights": cast_traffic(self.parameters.total, self.saving),
            "optimizer": optimizer_traffic(self.parameters.total, self.fused_optimizer),
        }

    def stretches(self) -> dict[str, float]:
        """What each named stretch of a pack's step has to do: operations; bytes where it does not multiply.

        Names are those of aqqua/train/spans.py; `other` counts images, for what is done for each.
        """
        images, flops, traffic = self.images_per_pack, self.flops, self.traffic()
        return {
            "teacher": images * (flops.teacher.forward_total + flops.teacher_heads.forward_total),
            "sinkhorn": traffic["losses"].total,
            "student": images * (flops.student.forward_total + flops.student_heads.forward_total),
            "backward": images * (flops.student.backward_total + flops.student_heads.backward_total),
            "optimizer": traffic["optimizer"].total,
            "other": images,
        }
