import pytest

from aqqua.cost.activations import PackShape, Saving
from aqqua.cost.collectives import Links, all_reduce_seconds, gather_seconds, scatter_seconds
from aqqua.cost.engines import ENGINES, communication
from aqqua.cost.memory import BUCKET_VALUES, checkpoint_bytes, memory
from aqqua.cost.parameters import network_parameters
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig

BY_NAME = {engine.name: engine for engine in ENGINES}
MODEL, OBJECTIVE = ModelConfig(size="large"), ObjectiveConfig()
PARAMETERS = network_parameters(MODEL, OBJECTIVE)
P = PARAMETERS.total
PACK = PackShape(images=100, tokens=32_000, views=1000, patches=27_000, masked=1500)


def used(name: str, ranks: int = 8, packs: int = 2, **saving: object):
    form = Saving(fused=False, **saving)  # type: ignore[arg-type]
    return memory(BY_NAME[name], PARAMETERS, MODEL, OBJECTIVE, PACK, form, ranks, packs)


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
    assert used("ZeRO 1").copies == 2 * P + 8 * min(P, BUCKET_VALUES)
    assert used("ZeRO 1", ranks=1).copies == 2 * P
    assert used("ZeRO 3").copies == 2 * P + 8 * min(P, BUCKET_VALUES) + 8 * PARAMETERS.largest


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


LINKS = Links(4, 2, 100e9, 50e9, 1e-6, 1e-5)
SLOW, QUICK = 100.0, 0.0  # seconds of computing that hide everything, or nothing


def talk(name: str, packs: int = 3, seconds: float = QUICK, links: Links = LINKS):
    return communication(BY_NAME[name], P, links, packs, seconds, seconds, seconds)


def test_communication_by_hand():
    reduce4, gather4 = scatter_seconds(4 * P, LINKS), gather_seconds(4 * P, LINKS)
    assert talk("plain").total_s == talk("plain").exposed_s == all_reduce_seconds(8 * P, LINKS)
    assert talk("ZeRO 1").total_s == pytest.approx(reduce4 + gather4)
    assert talk("ZeRO 2").total_s == pytest.approx(3 * reduce4 + gather4)
    everywhere = 2 * gather4 + reduce4 + gather4
    assert talk("ZeRO 3").total_s == pytest.approx(3 * everywhere)
    for engine in ENGINES:
        assert talk(engine.name).exposed_s == pytest.approx(talk(engine.name).total_s)


def test_what_computing_hides():
    gather4 = gather_seconds(4 * P, LINKS)
    assert (
        talk("plain", seconds=SLOW).exposed_s == talk("plain").exposed_s
    )  # after the last pack, in the open
    for name in ("ZeRO 1", "ZeRO 2"):
        assert talk(name, seconds=SLOW).exposed_s == pytest.approx(gather4)
    assert talk("ZeRO 3", seconds=SLOW).exposed_s == 0


@pytest.mark.parametrize("name", BY_NAME)
def test_more_nodes_never_expose_less(name):
    exposed = [
        talk(name, seconds=seconds, links=Links(4, nodes, 100e9, 50e9, 1e-6, 1e-5)).exposed_s
        for seconds in (0.0, 0.02)
        for nodes in (1, 2, 4, 8, 16, 32)
    ]
    assert exposed[:6] == sorted(exposed[:6])
    assert exposed[6:] == sorted(exposed[6:])
    assert all(late <= early for early, late in zip(exposed[:6], exposed[6:], strict=True))


@pytest.mark.parametrize("name", BY_NAME)
def test_one_rank_tells_nobody(name):
    alone = talk(name, links=Links(1, 1, 1, 1, 1, 1))
    assert (alone.total_s, alone.exposed_s) == (0, 0)
