import pytest

from aqqua.cost.activations import PackShape, Saving
from aqqua.cost.tokens import equal_views
from aqqua.cost.traffic import (
    GELU,
    REFERENCE,
    Traffic,
    backbone_traffic,
    cast_traffic,
    loss_traffic,
    optimizer_traffic,
)
from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig
from aqqua.objective.ssl import ObjectiveConfig

ROLE = equal_views(10, 100)  # 1,000 tokens
MODEL = ModelConfig(width=64, heads=2, layers=3, drop_path=0.3)
SAVINGS = {"reference": Saving(fused=False), "fused": Saving(fused=True)}


def test_an_unfused_transformer_moves_66_values_a_token():
    branch = sum(sum(moved) for moved in vars(REFERENCE).values())
    assert 2 * branch + 4 * sum(GELU[False]) == 66


def test_reference_by_hand():
    moved = backbone_traffic(MODEL, ROLE, SAVINGS["reference"], 1.0, backward=False).ops
    assert moved["norm, residual"] == 2 * 3 * 64 * 1000 * ((2 + 2 + 3) * 4 + 6)  # and the casts, 4 + 2 bytes
    assert moved["activation function"] == 3 * 256 * 1000 * 2 * 2
    assert moved["attention"] == 3 * 64 * 1000 * 4 * 2
    assert moved["rotary"] == moved["attention"]


def test_our_kernels_by_hand():
    moved = backbone_traffic(MODEL, ROLE, SAVINGS["fused"], 0.7, backward=True).ops
    assert moved["norm, residual"] == pytest.approx(2 * 3 * 64 * 1000 * (3 * 4 + 0.7 * 3 * 2))
    assert moved["activation function"] == pytest.approx(3 * 256 * 700 * 4 * 2)
    assert moved["attention"] == pytest.approx(3 * 64 * 700 * 8 * 2)
    assert "rotary" not in moved


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kept", [0.6, 1.0])
def test_our_kernels_move_less(ffn, backward, kept):
    model = MODEL.model_copy(update={"ffn": ffn})
    reference, fused = (backbone_traffic(model, ROLE, s, kept, backward).total for s in SAVINGS.values())
    assert fused < reference


PACK = PackShape(images=10, tokens=1000, views=50, patches=800, masked=30)
HEADS = ObjectiveConfig(head=HeadConfig(prototypes=1000, bottleneck=16))


def test_losses_by_hand():
    kernels = loss_traffic(HEADS, PACK, Saving(True, losses="triton")).ops
    assert kernels["targets and losses"] == 1000 * (14 * (20 + 30) + 16 * (50 + 30))
    again = loss_traffic(HEADS, PACK, Saving(True, losses="recompute")).ops
    assert again["targets and losses"] == 0
    assert again["prototypes"] == kernels["prototypes"] == 2 * 58 * 1000 * 16
    reference = loss_traffic(HEADS, PACK, Saving(False)).ops
    assert reference["targets and losses"] > 7 * kernels["targets and losses"]
    wide = loss_traffic(HEADS, PACK, Saving(False, compute_bytes=4)).ops  # logits in float32
    assert wide["targets and losses"] == 2 * reference["targets and losses"]
    plain = ObjectiveConfig(head=HeadConfig(prototypes=1000, bottleneck=16, last_layer="plain"))
    assert loss_traffic(plain, PACK, Saving(False)).ops["prototypes"] == 0


def test_weights_by_hand():
    assert optimizer_traffic(1e6, fused=False).total == 52e6
    assert optimizer_traffic(1e6, fused=True).total == 40e6
    assert cast_traffic(1e6, Saving(False)).total == 30e6
    assert cast_traffic(1e6, Saving(False, compute_bytes=4)).total == 12e6


def test_sums():
    two = Traffic({"a": 1.0, "b": 2.0}).plus(Traffic({"b": 3.0, "c": 4.0}))
    assert two.ops == {"a": 1.0, "b": 5.0, "c": 4.0}
    assert two.times(2).total == 20
