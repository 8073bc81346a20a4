"""How many numbers a model holds, from its config alone.

Letter key: D width, F hidden width, L layers, R registers, G side of a position table, h hidden width of a
head, Z bottleneck, K prototypes. Test: tests/cost/test_network_parameters.py, against the built modules.
"""

from dataclasses import dataclass

from aqqua.model.config import ModelConfig
from aqqua.model.embed import ScaleEmbedding
from aqqua.model.heads import HeadConfig
from aqqua.objective.guides import GuideConfig
from aqqua.objective.ssl import ObjectiveConfig

SCALE_FEATURES = 2 * len(ScaleEmbedding.FREQUENCIES)


@dataclass(frozen=True)
class Parameters:
    """Of one network: student and teacher have one each."""

    backbone: int
    dino_head: int
    ibot_head: int  # 0: it shares the DINO head
    block: int  # of the backbone, the largest piece that is gathered at once where weights are sharded
    guide_head: int = 0  # of all guides

    @property
    def heads(self) -> int:
        return self.dino_head + self.ibot_head + self.guide_head

    @property
    def total(self) -> int:
        return self.backbone + self.heads

    @property
    def largest(self) -> int:
        """The largest module that is used at once: a block or a head."""
        return max(self.block, self.dino_head, self.ibot_head)


def network_parameters(model: ModelConfig, objective: ObjectiveConfig) -> Parameters:
    """Of the backbone and its heads."""
    separate = objective.ibot_head
    return Parameters(
        backbone=backbone_parameters(model),
        dino_head=head_parameters(objective.head, model.width),
        ibot_head=0 if separate is None else head_parameters(separate, model.width),
        block=block_parameters(model),
        guide_head=sum(guide_parameters(guide, model.width) for guide in objective.guides),
    )


def backbone_parameters(model: ModelConfig) -> int:
    """Embedding, blocks and the last norm."""
    return embedding_parameters(model) + model.layers * block_parameters(model) + 2 * model.width


def embedding_parameters(model: ModelConfig) -> int:
    """Patch embedding, CLS, registers, mask token, position, scale."""
    D = model.width
    position = {"learned": model.position_grid**2 * D, "factorised": 2 * model.position_grid * D, "gsd": D}
    scale = _linear(SCALE_FEATURES, D) + _linear(D, D) + D if model.scale_token else 0
    tokens = (2 + model.registers) * D
    grey = model.patch_px**2 * D if model.grey_embedding else 0
    return _linear(model.patch_values, D) + grey + tokens + position.get(model.position, 0) + scale


def block_parameters(model: ModelConfig) -> int:
    """Two norms, two LayerScales, attention, feed-forward."""
    D, F = model.width, model.ffn_width
    attention = _linear(D, 3 * D) + _linear(D, D)
    gated = 2 if model.ffn == "swiglu" else 1
    return 4 * D + 2 * D + attention + _linear(D, gated * F) + _linear(F, D)


def head_parameters(head: HeadConfig, width: int) -> int:
    """Three layers and the prototypes, with a gain each where they are of unit length."""
    h, Z = head.hidden, head.bottleneck
    gains = head.prototypes if head.last_layer == "weight_norm" else 0
    return _linear(width, h) + _linear(h, h) + _linear(h, Z) + head.prototypes * Z + gains


def guide_parameters(guide: GuideConfig, width: int) -> int:
    """Two layers; of an instrument whose names only the dataset knows, but one output is counted."""
    return _linear(width, guide.hidden) + _linear(guide.hidden, max(guide.outputs, 1))


def heads_of(objective: ObjectiveConfig) -> tuple[HeadConfig, HeadConfig]:
    """The DINO head and the iBOT head, which may be the same one."""
    return objective.head, objective.ibot_head or objective.head


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs
