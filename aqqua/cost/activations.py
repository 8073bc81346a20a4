"""What a pack keeps from its forward pass for its backward pass, in bytes, tensor by tensor.

Counted from aqqua.model.block and aqqua.model.chain as autograd saves it, without what belongs to the
weights. The residual stream is float32; what products take and give is `compute_bytes` wide (2 in mixed
precision). With drop-path a branch runs on its share of the tokens; where our kernels serve, no copy of these
rows and no result of the activation function is kept.

Letter key: T tokens, V views, N patch rows, D width, F hidden width, H heads, E head width, L layers, R
student rows, M masked patches, K prototypes, Z bottleneck, h hidden width of a head.
Test: tests/cost/test_activations.py, against torch.autograd.graph.saved_tensors_hooks.
"""

from dataclasses import dataclass
from typing import Literal

from aqqua.cost.parameters import heads_of
from aqqua.cost.tokens import Tokens, kept_share
from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig
from aqqua.objective.ssl import ObjectiveConfig

STREAM_BYTES = 4  # of a value of the residual stream
INDEX_BYTES = 8
LossForm = Literal["reference", "triton", "recompute"]


@dataclass(frozen=True)
class PackShape:
    """A pack as the student sees it."""

    images: float
    tokens: float
    views: float
    patches: float
    masked: float
    global_views: float = 2.0  # of an image
    global_patches: float = 0.0
    global_squares: float = 0.0  # Σ (patches of a global view)²

    @classmethod
    def of(cls, tokens: Tokens, prefix: int, images: float) -> "PackShape":
        """Of so many images with these tokens."""
        role = tokens.student.times(images)
        masked, seen = tokens.masked * images, tokens.teacher.times(images)
        return cls(
            images, role.tokens, role.views, role.patches(prefix), masked, tokens.globals_.views,
            seen.patches(prefix), seen.patch_squares(prefix),
        )  # fmt: skip

    @property
    def kept_views(self) -> float:
        return self.views


@dataclass(frozen=True)
class Saving:
    """How a model keeps its activations."""

    fused: bool  # our kernels run the backbone (aqqua.model.chain)
    compute_bytes: int = 2
    checkpointed: bool = False
    losses: LossForm = "reference"
    grouped: bool = False  # attention by one dense batch for each length, as on the CPU


def block_bytes(model: ModelConfig, pack: PackShape, saving: Saving) -> float:
    """Of one block."""
    kept = kept_share(pack.views, model.drop_path)
    per_token = _fused_block(model, saving, kept) if saving.fused else _eager_block(model, saving, kept)
    return pack.tokens * per_token


def _ffn_values(model: ModelConfig, fused: bool) -> float:
    """Of the feed-forward's hidden values, per token, those that are kept.

    GELU: its input and result; SwiGLU: gate and up, silu(gate), the product. Our kernel keeps its input
    alone.
    """
    inputs = 2 if model.ffn == "swiglu" else 1
    return model.ffn_width * (inputs if fused else 2 * inputs)


def _attention_bytes(model: ModelConfig, saving: Saving) -> float:
    """q, k, v, the result, and log-sum-exp in float32; grouped, the result also as one piece.

    Turned by their positions outside a kernel, q and k are kept beside the projection, of which v is a part.
    """
    D, c = model.width, saving.compute_bytes
    turned = 2 * D * c if model.position.startswith("rope") and not saving.fused else 0
    return 4 * D * c + model.heads * 4 + turned + (D * c if saving.grouped else 0)


def _eager_block(model: ModelConfig, saving: Saving, kept: float) -> float:
    D, c = model.width, saving.compute_bytes
    norms = 2 * (D * STREAM_BYTES + D * c + 8)  # input, result, mean and 1/σ
    branches = 2 * D * c  # results, for the gradient of LayerScale
    dropping = rotary = 0.0
    if model.drop_path:
        dropping = 2 * (D * STREAM_BYTES + INDEX_BYTES)  # scaled branches as index_add keeps them; the rows
        rotary = _rotary_bytes(model)  # of the kept rows
    hidden = _ffn_values(model, fused=False) * c
    return kept * (norms + branches + hidden + dropping + rotary + _attention_bytes(model, saving))


def _fused_block(model: ModelConfig, saving: Saving, kept: float) -> float:
    D, c = model.width, saving.compute_bytes
    stream = 2 * (D * STREAM_BYTES + 8)  # after each branch, whole
    branches = 2 * (D * c + D * c)  # normed inputs and results
    hidden = _ffn_values(model, fused=True) * c
    rotary = _rotary_bytes(model) if model.drop_path else 0.0
    return stream + kept * (branches + hidden + rotary + _attention_bytes(model, saving))


def _rotary_bytes(model: ModelConfig) -> float:
    """Cosines and sines of a token, float32."""
    return 2 * model.head_width * 4 if model.position.startswith("rope") else 0


def backbone_bytes(model: ModelConfig, pack: PackShape, saving: Saving) -> float:
    """Embedding, rotary tables, blocks and the last norm."""
    D, T = model.width, pack.tokens
    row = model.patch_values * saving.compute_bytes + D * STREAM_BYTES  # of pixels, and embedded
    embedding = pack.patches * (row + INDEX_BYTES + 1)
    embedding += pack.views * model.prefix * (D * STREAM_BYTES + INDEX_BYTES)
    last = T * (D * STREAM_BYTES + 8)
    blocks = model.layers * block_bytes(model, pack, saving)
    if saving.checkpointed:
        kept = T * D * (STREAM_BYTES + (saving.compute_bytes if saving.fused else 0))  # the inputs of a block
        blocks = model.layers * kept + block_bytes(model, pack, saving)  # and all of the one that runs again
    tables = 0.0 if model.drop_path else T * _rotary_bytes(model)  # dropping, each layer keeps its own rows
    return embedding + tables + blocks + last


def head_bytes(head: HeadConfig, width: int, rows: float, saving: Saving) -> float:
    """Of a head's layers, and of its prototypes as this call made them."""
    c, h, Z = saving.compute_bytes, head.hidden, head.bottleneck
    values = width + 4 * h + 2 * Z  # input, two layers around GELU, bottleneck around its norm
    unit = head.last_layer == "weight_norm"
    prototypes = head.prototypes * Z * (4 * unit + (c if c < 4 else 0))
    return rows * values * c + prototypes


def logit_bytes(objective: ObjectiveConfig, pack: PackShape, saving: Saving) -> float:
    """Of what is as wide as the prototypes: the student's logits, and where no kernel serves the targets.

    The reference keeps DINO's targets as one row for each global crop and one for all local ones together,
    iBOT's for each masked patch, in float32; the kernels make both on the way.
    """
    dino, ibot = heads_of(objective)
    if saving.losses == "recompute":
        return 0.0
    logits = saving.compute_bytes * (pack.views * dino.prototypes + pack.masked * ibot.prototypes)
    if saving.losses == "triton":
        return logits
    rows = (pack.global_views + (pack.views > pack.global_views * pack.images)) * pack.images
    return logits + 4 * (rows * dino.prototypes + pack.masked * ibot.prototypes)


def anchor_bytes(model: ModelConfig, pack: PackShape) -> float:
    """What Gram anchoring keeps: all patch features, those of global views once more with length 1, and two
    Gram matrices of each global view; all float32."""
    rows = pack.patches + pack.global_patches
    return 4 * rows * model.width + 2 * 4 * pack.global_squares


def spread_bytes(model: ModelConfig, objective: ObjectiveConfig, pack: PackShape) -> float:
    """Of a pack's CLS on every rank, where KoLeo looks beyond packs: as gathered, and joined by groups."""
    return 2 * 4 * pack.images * pack.global_views * model.width if objective.spreads else 0.0


def pack_bytes(model: ModelConfig, objective: ObjectiveConfig, pack: PackShape, saving: Saving) -> float:
    """All that a pack keeps between the student's forward and backward pass."""
    dino, ibot = heads_of(objective)
    heads = head_bytes(dino, model.width, pack.views, saving)
    heads += head_bytes(ibot, model.width, pack.masked, saving)
    anchored = anchor_bytes(model, pack) if objective.gram is not None else 0.0
    return backbone_bytes(model, pack, saving) + heads + logit_bytes(objective, pack, saving) + anchored


def loss_work_bytes(objective: ObjectiveConfig, pack: PackShape, saving: Saving) -> float:
    """What the backward pass of the larger loss takes for a moment: float32 gradients of logits, a copy."""
    if saving.losses != "reference":
        return 0.0
    dino, ibot = heads_of(objective)
    return (4 + saving.compute_bytes) * max(pack.views * dino.prototypes, pack.masked * ibot.prototypes)


def teacher_bytes(objective: ObjectiveConfig, pack: PackShape, saving: Saving) -> float:
    """What the teacher says of a pack, kept until the student has seen it.

    Logits; or, recomputed, bottleneck rows and the prototypes as each call made them.
    """
    heads = heads_of(objective)
    rows = (pack.global_views * pack.images, pack.masked)
    c = saving.compute_bytes
    if saving.losses == "recompute":
        return c * sum((r + head.prototypes) * head.bottleneck for head, r in zip(heads, rows, strict=True))
    return c * sum(r * head.prototypes for head, r in zip(heads, rows, strict=True))
