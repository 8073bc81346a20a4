"""Student and teacher, and one forward of each over a packed batch.

The order within a step is the caller's (aqqua.train.loop): the teacher sees the global views of
all packs, Sinkhorn is solved once over all its rows, then the student runs pack by pack. Each
pack's losses are shares of the step's losses, normalised by the step's image count, so packs and
ranks simply add up.

Letters: I images of the pack, S views of an image (2 global first), V = S·I, N patch rows,
M masked patches, K prototypes, D width. Test: tests/objective/test_ssl.py.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from aqqua.kernels.prototype_loss import Projected, Rows
from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig, PrototypeHead
from aqqua.model.sequences import Kept, Sequences
from aqqua.model.vit import Features, VisionTransformer
from aqqua.objective.gram import gram_loss
from aqqua.objective.gram_teacher import GramConfig, GramTeacher
from aqqua.objective.guides import GuideConfig, Guides, GuidingConfig
from aqqua.objective.koleo import koleo_loss
from aqqua.objective.losses import NOTHING_BESIDE, Beside, Losses
from aqqua.objective.prototypes import (
    GLOBALS,
    LossKernels,
    backend_of,
    balanced,
    dino_share,
    ibot_share,
    rows_of,
)
from aqqua.objective.sinkhorn import AllReduce, Assignment, alone
from aqqua.objective.spread import Neighbours, spread_loss, unit_rows


class ObjectiveConfig(BaseModel):
    """Heads and losses; DINOv2's values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: HeadConfig = Field(default=HeadConfig(), description="DINO head")
    ibot_head: HeadConfig | None = Field(
        default=None,
        description="separate iBOT head; null: iBOT shares the DINO head (DINOv2's short recipe)",
    )
    dino_weight: float = Field(default=1.0, ge=0, description="DINOv2 1.0")
    ibot_weight: float = Field(default=1.0, ge=0, description="DINOv2 1.0")
    koleo_weight: float = Field(default=0.1, ge=0, description="DINOv2 0.1")
    koleo_warmup_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the run over which koleo_weight rises from 0; DINOv2 0. A large weight spreads "
        "features evenly, which helps neighbours, but from the start it keeps classes from forming",
    )
    koleo_lanes: int = Field(
        default=1,
        ge=1,
        description="consecutive lanes whose images look for their neighbours together; divides data.lanes. "
        "1: each pack by itself (DINOv2: each GPU). More take a pass of the student over the global views",
    )
    koleo_neighbours: int = Field(
        default=1,
        ge=1,
        le=64,
        description="nearest others an image keeps away from (DINOv3 topk: 1)",
    )
    gram: GramConfig | None = Field(
        default=None, description="anchor patch features to a frozen teacher, late in the run; null: never"
    )
    guides: tuple[GuideConfig, ...] = Field(
        default=(), description="facts beside the pixels that the backbone is to know or to forget; none"
    )
    guiding: GuidingConfig = Field(default=GuidingConfig(), description="of the guides, if there are any")
    student_temperature: float = Field(default=0.1, gt=0, description="DINOv2 0.1")
    sinkhorn_iterations: int = Field(default=3, ge=1, description="DINOv2 3")
    kernels: LossKernels = Field(
        default="auto",
        description="who computes targets, losses and KoLeo: triton kernels; recompute, the same, but logits "
        "are made anew in every pass and never stored, for very many prototypes; reference, plain PyTorch; "
        "auto: triton on CUDA where it was measured to be faster. Forcing what cannot serve is an error",
    )

    @property
    def spreads(self) -> bool:
        """KoLeo has to know of other packs, or of more than the nearest neighbour."""
        return self.koleo_weight > 0 and (self.koleo_lanes > 1 or self.koleo_neighbours > 1)


@dataclass(frozen=True)
class Batch:
    """One pack on the device: pixels and all that is known of its views."""

    patches_NF: Float[Tensor, "N F"]
    student: Sequences  # all views
    teacher: Sequences  # the global views, which come first
    n_images: int
    image_I: Int[Tensor, " I"]  # equal numbers are the same image
    mask_N: Bool[Tensor, " N"]
    masked_M: Int[Tensor, " M"]  # rows of the N that iBOT asks about, hidden or not
    weight_M: Float[Tensor, " M"]
    drop_scores_L2V: Float[Tensor, "L 2 V"] | None  # on the CPU
    hide_scale_V: Bool[Tensor, " V"] | None
    told_CB: Float[Tensor, "C B"] | None = None  # facts for the guides, of the global views; NaN unknown
    known_Q: tuple[int, ...] = ()  # global views of which each guide's fact is known
    kept: Kept | None = None  # patches that the student gets; None: all


@dataclass(frozen=True)
class TeacherLogits:
    """What the teacher says of a pack, before Sinkhorn."""

    dino_BK: Float[Tensor, "B K"] | Projected  # CLS of global 1 of all images, then of global 2
    ibot_MK: Float[Tensor, "M Ki"] | Projected  # a head of its own may have other prototypes


@dataclass(frozen=True)
class Targets:
    """Sinkhorn's answer for the whole step."""

    dino: Assignment
    ibot: Assignment


class Network(nn.Module):
    """Backbone and heads of one side."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__()
        self.backbone = VisionTransformer(model)
        self.dino_head = PrototypeHead(objective.head, model.width)
        separate = objective.ibot_head
        self.ibot_head = None if separate is None else PrototypeHead(separate, model.width)
        self.guide_head = Guides(objective.guides, model.width) if objective.guides else None
        self.objective, self.kernels = objective, objective.kernels

    def name_views(self, cls_VD: Tensor) -> Rows:
        """DINO logits of views."""
        return rows_of(self.dino_head, cls_VD, self.kernels)

    def name_patches(self, patches_MD: Tensor) -> Rows:
        """iBOT logits of masked patches, by the separate or the shared head."""
        head = self.dino_head if self.ibot_head is None else self.ibot_head
        return rows_of(head, patches_MD, self.kernels)


@dataclass(frozen=True, eq=False)
class Followed:
    """A trained network that a smaller student follows, on its device; it never moves.

    No module, so that it is not among the weights that a run moves, hashes and saves.
    """

    network: Network
    sha256: str  # of its weights


class SelfSupervised(nn.Module):
    """Student, its moving-average teacher and that one's frozen copy (float32, never trained).

    In distillation the targets are those of a larger network, `followed`; the moving average of the student
    is then the final model and has no part in the training. Source: DINOv2 (Oquab 2023), section 5; dinov2
    issue #96.
    """

    def __init__(
        self, model: ModelConfig, objective: ObjectiveConfig, followed: Followed | None = None
    ) -> None:
        super().__init__()
        self.config, self.followed = objective, followed
        self.student = Network(model, objective)
        self.teacher = copy.deepcopy(self.student).float().requires_grad_(False).eval()
        gram = objective.gram
        self.gram = None if gram is None else GramTeacher(self.teacher.backbone, gram.scale)

    def start_from(self, backbone: VisionTransformer) -> None:
        """Give student and teacher the weights of a trained backbone; the heads stay as they are."""
        self.student.backbone.load_state_dict(backbone.state_dict())
        self.teacher.backbone.load_state_dict(backbone.state_dict())

    @torch.no_grad()
    def teach(self, batch: Batch) -> TeacherLogits:
        """The teacher's logits of a pack: global views, unmasked."""
        network = self.teacher if self.followed is None else self.followed.network
        sequences = batch.teacher.with_prefix(network.backbone.config.prefix)
        features = network.backbone(batch.patches_NF[: sequences.patches], sequences)
        return TeacherLogits(
            network.name_views(features.cls_VD),
            network.name_patches(features.patches_ND[batch.masked_M]),
        )

    @torch.no_grad()
    def survey(self, batch: Batch) -> Float[Tensor, "G I D"]:
        """The student's CLS of a pack's global views, of length 1, before it learns (aqqua.objective.spread).

        Masks, hidden scales and dropped patches are those of the step; stochastic depth is not, as what it
        drops depends on all views of a pack.
        """
        patches, views, hide_V = batch.teacher.patches, GLOBALS * batch.n_images, batch.hide_scale_V
        features = self.student.backbone(
            batch.patches_NF[:patches],
            batch.teacher,
            mask_N=batch.mask_N[:patches],
            hide_scale_V=None if hide_V is None else hide_V[:views],
            kept=None if batch.kept is None else batch.kept.first(views),
        )
        return unit_rows(features.cls_VD.unflatten(0, (GLOBALS, batch.n_images)))

    def targets(
        self, logits: list[TeacherLogits], temperature: float, all_reduce: AllReduce = alone
    ) -> Targets:
        """Balanced targets over all packs of the step, and all ranks through `all_reduce`."""
        fixed = (temperature, self.config.sinkhorn_iterations, all_reduce, self.config.kernels)
        return Targets(
            balanced([pack.dino_BK for pack in logits], *fixed),
            balanced([pack.ibot_MK for pack in logits], *fixed),
        )

    def learn(
        self,
        batch: Batch,
        taught: TeacherLogits,
        targets: Targets,
        n_images_total: int | Tensor,
        koleo_weight: float | None = None,
        beside: Beside = NOTHING_BESIDE,
    ) -> Losses:
        """The student's losses on a pack; call backward on `total`.

        Args:
            n_images_total: images of the step over all packs and ranks.
            koleo_weight: of this step; None is the config's, as after its warm-up.
            beside: what else of the step matters to a pack.
        """
        features = self.student.backbone(
            batch.patches_NF,
            batch.student,
            mask_N=batch.mask_N,
            hide_scale_V=batch.hide_scale_V,
            drop_scores_L2V=batch.drop_scores_L2V,
            kept=batch.kept,
        )
        c, n_images = self.config, batch.n_images
        dino = dino_share(
            self.student.name_views(features.cls_VD),
            taught.dino_BK,
            targets.dino,
            n_images,
            n_images_total,
            c.student_temperature,
            c.kernels,
        )
        ibot = ibot_share(
            self.student.name_patches(features.patches_ND[batch.masked_M]),
            taught.ibot_MK,
            targets.ibot,
            batch.weight_M,
            GLOBALS * n_images_total,
            c.student_temperature,
            c.kernels,
        )
        globals_GID = features.cls_VD[: GLOBALS * n_images].unflatten(0, (GLOBALS, n_images))
        koleo = self._koleo(globals_GID, batch.image_I, beside.neighbours) / n_images_total
        koleo_weight = c.koleo_weight if koleo_weight is None else koleo_weight
        total = c.dino_weight * dino + c.ibot_weight * ibot + koleo_weight * koleo
        weighted, more = self._more(batch, features, n_images_total, beside)
        return Losses(dino, ibot, koleo, total + weighted, more)

    def _more(
        self, batch: Batch, features: Features, n_images_total: int | Tensor, beside: Beside
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """The terms that are on beside the usual ones: their weighted sum, and each by its name."""
        weighted: Tensor | float = 0.0
        more: dict[str, Tensor] = {}
        if self.gram is not None:
            more["gram"] = self._gram(batch, features.patches_ND, beside) / (GLOBALS * n_images_total)
            weighted = beside.gram_weight * more["gram"]
        if self.student.guide_head is not None:
            told = (batch.told_CB, beside.known_Q, beside.guiding, self.config.guiding.balance)
            guided = self.student.guide_head(features.cls_VD[: GLOBALS * batch.n_images], *told)
            weighted, more = weighted + guided.total, more | guided.parts
        return weighted, more

    def _koleo(self, globals_GID: Tensor, image_I: Tensor, among: Neighbours | None) -> Tensor:
        if among is not None:
            return spread_loss(globals_GID, among)
        return koleo_loss(globals_GID, image_I, backend_of(self.config.kernels))

    def _gram(self, batch: Batch, patches_ND: Tensor, beside: Beside) -> Tensor:
        """Sum over the global views: all their patches, the student's masked ones included, as in DINOv3."""
        if not beside.gram_weight or self.gram is None:
            return patches_ND.new_zeros((), dtype=torch.float32)
        patches, lengths_V = batch.teacher.patches, batch.teacher.lengths - batch.teacher.prefix
        anchor_ND = self.gram.features(batch.patches_NF[:patches], batch.teacher)
        return gram_loss(patches_ND[:patches], anchor_ND, lengths_V.tolist())
