from dataclasses import replace

import pytest
from counted_packs import count_backbone_saved, count_saved, made_batch, objective

from aqqua.cost.activations import (
    PackShape,
    Saving,
    anchor_bytes,
    backbone_bytes,
    block_bytes,
    logit_bytes,
    loss_work_bytes,
    pack_bytes,
    teacher_bytes,
)
from aqqua.model.config import ModelConfig
from aqqua.objective.losses import Beside
from aqqua.objective.ssl import Batch, SelfSupervised

SMALL = {"width": 64, "layers": 2, "heads": 2, "patch_px": 8, "drop_path": 0}
MODELS = {
    "small": SMALL,
    "small, drop-path": {**SMALL, "drop_path": 0.3},
    "larger, drop-path, colour": {**SMALL, "width": 128, "layers": 4, "channels": 3, "drop_path": 0.25},
    "larger, swiglu": {**SMALL, "width": 96, "layers": 3, "ffn": "swiglu", "registers": 0, "position": "gsd"},
}
PLAIN_IBOT = {"prototypes": 512, "hidden": 96, "bottleneck": 32, "last_layer": "plain"}
HERE = Saving(fused=False, compute_bytes=4, grouped=True)  # on a CPU


def shape_of(batch: Batch) -> PackShape:
    packing = batch.student
    return PackShape(batch.n_images, packing.tokens, packing.views, packing.patches, len(batch.masked_M))


@pytest.mark.parametrize("ibot_head", [None, PLAIN_IBOT], ids=["shared head", "iBOT head"])
@pytest.mark.parametrize("images", [6, 20])
@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_as_autograd_saves_them(fields, images, ibot_head):
    model, heads = ModelConfig.model_validate(fields), objective(ibot_head=ibot_head)
    batch = made_batch(model, images)
    saved = count_saved(SelfSupervised(model, heads), batch)
    pack = shape_of(batch)
    assert backbone_bytes(model, pack, HERE) == pytest.approx(saved.backbone, rel=0.1)
    assert pack_bytes(model, heads, pack, HERE) == pytest.approx(saved.everything, rel=0.1)


@pytest.mark.parametrize("scale", [1, 2])
def test_gram_anchoring_as_autograd_saves_it(scale):
    """What it adds, of larger views than the others: nothing of the Gram teacher's own pass is kept."""
    model, batch = (
        ModelConfig.model_validate(SMALL),
        made_batch(ModelConfig.model_validate(SMALL), sides=(6, 9)),
    )
    network = SelfSupervised(model, objective(gram={"scale": scale}))
    off, on = (count_saved(network, batch, Beside(gram_weight=weight)).everything for weight in (0.0, 1.0))
    patches_V = (batch.teacher.lengths - batch.teacher.prefix).double()
    pack = replace(
        shape_of(batch),
        global_patches=float(patches_V.sum()),
        global_squares=float(patches_V.square().sum()),
    )
    assert anchor_bytes(model, pack) == pytest.approx(on - off, rel=0.1)


@pytest.mark.parametrize("drop_path", [0, 0.25])
def test_by_our_kernels_as_autograd_saves_them(drop_path):
    """Of the backbone: the loss keeps logits, which become their gradient, where autograd does not look."""
    ours = {"kernels": "triton", "attention": "triton", "drop_path": drop_path}
    model = ModelConfig.model_validate({**SMALL, **ours})
    batch = made_batch(model, images=1, sides=(4, 4))  # equal views: 3 of 4 are 3/4 of the tokens
    saved = count_backbone_saved(SelfSupervised(model, objective()), batch)
    fused = Saving(fused=True, compute_bytes=4, losses="triton")
    assert backbone_bytes(model, shape_of(batch), fused) == pytest.approx(saved, rel=0.05)


PACK = PackShape(images=100, tokens=32_000, views=1000, patches=27_000, masked=1500)
BASE = ModelConfig(size="base", drop_path=0)


def test_checkpointing_keeps_inputs_and_one_block():
    eager = Saving(fused=False)
    whole, less = (backbone_bytes(BASE, PACK, replace(eager, checkpointed=c)) for c in (False, True))
    block = block_bytes(BASE, PACK, eager)
    inputs = 32_000 * 768 * 4
    assert whole - less == pytest.approx(11 * block - 12 * inputs)


def test_a_block_in_mixed_precision_by_hand():
    # float32: x before either norm. bfloat16, 16 values: normed 2, qkv 3, o 1, branches 2, hidden 4 + 4.
    values, small = 2 * 4 + 2 * 16, 2 * 8 + 12 * 4  # mean and 1/σ twice, log-sum-exp of 12 heads
    turned = 2 * 2  # q and k beside the projection
    assert block_bytes(BASE, PACK, Saving(fused=False)) == 32_000 * (768 * (values + turned) + small)
    # Our kernels turn in registers, keep the stream, and the input of GELU but not its result.
    assert block_bytes(BASE, PACK, Saving(fused=True)) == 32_000 * (768 * (values - 8) + small)


@pytest.mark.parametrize("fused", [False, True])
def test_drop_path_keeps_less(fused):
    dropping = ModelConfig(size="base", drop_path=0.4)
    assert block_bytes(dropping, PACK, Saving(fused)) < block_bytes(BASE, PACK, Saving(fused))


def test_logits_by_form():
    heads = objective()
    K = heads.head.prototypes
    stored, kernels, again = (Saving(False, losses=form) for form in ("reference", "triton", "recompute"))
    assert logit_bytes(heads, PACK, kernels) == 2 * K * (1000 + 1500)
    assert logit_bytes(heads, PACK, stored) == 2 * K * 2500 + 4 * K * (3 * 100 + 1500)
    assert logit_bytes(heads, PACK, again) == 0
    assert loss_work_bytes(heads, PACK, stored) == 6 * K * 1500
    assert loss_work_bytes(heads, PACK, kernels) == 0
    assert teacher_bytes(heads, PACK, stored) == 2 * K * (200 + 1500)
    assert teacher_bytes(heads, PACK, again) == 2 * 64 * (200 + 1500 + 2 * K)
