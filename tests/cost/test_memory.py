import pytest

from aqqua.cost.activations import PackShape, Saving
from aqqua.cost.engines import ENGINES, Engine, plain, zero
from aqqua.cost.memory import checkpoint_bytes, memory
from aqqua.cost.parameters import network_parameters
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.train.settings import TrainConfig
from aqqua.train.zero_config import ZeroConfig

BY_NAME = {engine.name: engine for engine in ENGINES}
MODEL, OBJECTIVE = ModelConfig(size="large"), ObjectiveConfig()
PARAMETERS = network_parameters(MODEL, OBJECTIVE)
P = PARAMETERS.total
PACK = PackShape(images=100, tokens=32_000, views=1000, patches=27_000, masked=1500)


def used(engine: str | Engine, ranks: int = 8, packs: int = 2, **saving: object):
    form = Saving(fused=False, **saving)  # type: ignore[arg-type]
    engine = BY_NAME[engine] if isinstance(engine, str) else engine
    return memory(engine, PARAMETERS, MODEL, OBJECTIVE, PACK, form, ranks, packs)


# Bytes of a parameter by hand for 8 ranks: weights, gradients, optimizer, teacher.
@pytest.mark.parametrize(
    ("name", "weights", "gradients", "optimizer", "teacher"),
    [
        ("plain", 4, 4 + 8, 8, 4),
        ("ZeRO 1", 4, 4, 12 / 8, 4),
        ("ZeRO 2", 4, 4 / 8, 12 / 8, 4),
        ("ZeRO 3", 4 / 8, 4 / 8, 12 / 8, 4 / 8),
    ],
)
def test_bytes_of_a_parameter(name, weights, gradients, optimizer, teacher):
    of = used(name)
    assert of.weights == weights * P
    assert of.gradients == gradients * P
    assert of.optimizer == optimizer * P
    assert of.teacher == teacher * P


def test_copies_and_buckets():
    assert used("plain").copies == 2 * P
    # DeepSpeed's buffer of 500 million values, and what of them is sent; stage 3 gathers 50 million ahead.
    buckets = 4 * 500_000_000 + 4 * P
    assert used("ZeRO 1").copies == used("ZeRO 1", ranks=1).copies == 2 * P + buckets
    assert used("ZeRO 3").copies == 2 * P + buckets + 4 * 50_000_000 + 8 * PARAMETERS.largest
    other = ZeroConfig(overlap=True, reduce_bucket_size=1000, prefetch_bucket_size=10)
    assert used(zero(1, other)).copies == 2 * P + 4 * (2 * 1000 + 1000)
    assert used(zero(3, other)).copies == 2 * P + 4 * (2 * 1000 + 1000 + 10) + 8 * PARAMETERS.largest


def test_sums_of_gradients_are_as_the_config_says():
    by_config = {
        "float32": plain(TrainConfig(images=1, gradient_sum="float32")),
        "in order": plain(TrainConfig(images=1, deterministic=True)),
        "float64": plain(TrainConfig(images=1)),
    }
    assert [used(engine).gradients / P for engine in by_config.values()] == [4, 8, 12]
    assert [used(engine, ranks=1).gradients / P for engine in by_config.values()] == [4, 4, 12]
    assert [used(engine, ranks=1, packs=1).gradients / P for engine in by_config.values()] == [4, 4, 4]


def test_offloading_frees_the_optimizers_part():
    assert used(zero(2, ZeroConfig(offload=True))).optimizer == 0
    assert used(zero(2, ZeroConfig(offload=True))).gradients == used("ZeRO 2").gradients


def test_what_a_rank_keeps_grows_with_its_packs():
    two, four = used("plain"), used("plain", packs=4)
    assert four.teacher_logits == 2 * two.teacher_logits
    assert four.activations == two.activations
    assert two.inputs == 27_000 * MODEL.patch_values * 2
    assert four.inputs == 3 * two.inputs


def test_higher_stages_need_less_and_so_do_checkpointing_and_recomputing():
    totals = [used(engine.name).total for engine in ENGINES[1:]]
    assert totals == sorted(totals, reverse=True)
    assert (
        used("plain", checkpointed=True).total < used("plain", losses="recompute").total < used("plain").total
    )
    assert used("plain").total == pytest.approx(sum(vars(used("plain")).values()))
    for name in ("ZeRO 1", "ZeRO 3"):
        assert used(name, ranks=16).total < used(name, ranks=8).total


def test_a_checkpoint_holds_student_teacher_and_moments():
    assert checkpoint_bytes(PARAMETERS) == (4 + 4 + 8) * P


def test_what_is_off_by_default_takes_its_memory():
    anchored = ObjectiveConfig.model_validate({"gram": {}})
    spread = ObjectiveConfig(koleo_lanes=2)
    pack = PackShape(100, 32_000, 1000, 27_000, 1500, 2, 8_000, 900_000)
    off, gram, koleo = (
        memory(BY_NAME["ZeRO 2"], PARAMETERS, MODEL, given, pack, Saving(fused=False), 8, 2)
        for given in (OBJECTIVE, anchored, spread)
    )
    assert gram.teacher - off.teacher == 4 * PARAMETERS.backbone
    # All patches, those of global views once more with length 1; two Gram matrices of each view.
    assert gram.activations - off.activations == pytest.approx(4 * 35_000 * MODEL.width + 8 * 900_000)
    # Two CLS of each image of 16 packs, as gathered and as joined.
    assert koleo.teacher_logits - off.teacher_logits == pytest.approx(8 * 16 * 200 * MODEL.width)
    assert checkpoint_bytes(PARAMETERS, anchored) == 16 * P + 4 * PARAMETERS.backbone
