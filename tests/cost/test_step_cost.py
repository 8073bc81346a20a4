from dataclasses import replace

import pytest
from made_work import fused, made_work, with_facts

from aqqua.cost import step
from aqqua.cost.activations import Saving
from aqqua.cost.collectives import Links, all_reduce_seconds, gather_seconds
from aqqua.cost.engines import ENGINES, PLAIN, zero
from aqqua.cost.facts import load_facts
from aqqua.cost.flops import recomputed_flops
from aqqua.cost.step import Pass, Rates, pack_seconds, sinkhorn_seconds, step_seconds
from aqqua.cost.work import Workload
from aqqua.model.heads import HeadConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.train.zero_config import ZeroConfig

FACTS = load_facts()
H200 = FACTS.gpu("H200")
ONE = Links(1, 1, 1e9, 1e9, 0, 0)


def links(nodes: int) -> Links:
    return Links(4, nodes, 300e9, 40e9, 3e-6, 8e-6)


def test_a_pass_is_a_roofline():
    rates = Rates(product_flop_s=100.0, attention_flop_s=10.0, bytes_s=5.0, launch_s=0.5)
    assert Pass(200, 30, 5, 10, 1).seconds(rates) == 2 + 3 + 2  # attention by its tiles
    assert Pass(200, 30, 50, 10, 1).seconds(rates) == 2 + 10 + 2  # by its bytes
    assert Pass(200, 30, 50, 10, 40).seconds(rates) == 20  # by the host's launches


def test_rates_of_a_gpu():
    rates = Rates.of(H200, FACTS, fused_attention=False)
    assert rates.product_flop_s == pytest.approx(790e12 * 0.85)
    assert rates.attention_flop_s == pytest.approx(790e12 * 0.45)
    assert rates.bytes_s == pytest.approx(4300e9 * 0.85)


def test_a_workload_adds_up():
    work = made_work(lanes=8)
    assert work.images_per_pack == pytest.approx(32_768 / work.tokens.student.tokens)
    assert work.images_per_step == 8 * work.images_per_pack
    assert work.pack.tokens == pytest.approx(32_768)
    assert work.pack.patches == pytest.approx(32_768 - 5 * 10 * work.images_per_pack)
    assert work.kept == 1
    assert made_work(drop_path=0.3).kept == pytest.approx(0.7, abs=0.001)


def test_never_quicker_than_products_and_bytes_allow():
    for work in (made_work(size="large"), fused(made_work(size="large"))):
        pack = pack_seconds(work, H200, FACTS)
        products = work.flops.total * work.images_per_pack / (H200.product_tflop_s.value * 1e12)
        assert pack.total_s > products
        assert pack.backward_s > pack.forward_s * 0.8
        assert pack.teacher_s < pack.forward_s


def test_our_kernels_are_predicted_to_be_quicker():
    work = made_work()
    assert pack_seconds(fused(work), H200, FACTS).total_s < 0.7 * pack_seconds(work, H200, FACTS).total_s


def test_checkpointing_runs_the_blocks_again():
    work = made_work(size="large")
    again = replace(work, saving=replace(work.saving, checkpointed=True))
    plain, checkpointed = (pack_seconds(of, H200, FACTS) for of in (work, again))
    assert checkpointed.forward_s == plain.forward_s
    assert plain.forward_s * 0.7 < checkpointed.backward_s - plain.backward_s < plain.forward_s * 1.3


def test_checkpointed_attention_by_hand():
    """Forward 1, again 1, backward 2, of which flash attention makes 2.5: 3.5 in the backward pass."""
    work = made_work(size="large")
    again = replace(work, saving=replace(work.saving, checkpointed=True))
    role = work.tokens.student
    tiles = work.flops.student.forward["attention"] * work.images_per_pack * role.tile_squares / role.squares

    def tile_flops(of: Workload) -> float:
        return step._passes(of, FACTS)[2].tile_flops

    assert tile_flops(work) == pytest.approx(2.5 * tiles)
    assert tile_flops(again) == pytest.approx(3.5 * tiles)


def test_recomputed_logits_cost_products():
    work = fused(made_work())
    again = replace(work, saving=replace(work.saving, losses="recompute"))
    rates = Rates.of(H200, FACTS, fused_attention=True)
    more = recomputed_flops(work.objective, work.tokens) * work.images_per_pack / rates.product_flop_s
    stored = work.traffic()["losses"].ops["targets and losses"] / rates.bytes_s
    got = pack_seconds(again, H200, FACTS).forward_s - pack_seconds(work, H200, FACTS).forward_s
    assert got == pytest.approx(more - stored)


def test_a_host_too_slow_decides():
    slow = with_facts("times", launch_us=1e5)
    pack = pack_seconds(made_work(), H200, slow)
    assert pack.teacher_s == pytest.approx(12 * 18 * 0.1)
    assert pack.backward_s == pytest.approx(12 * 35 * 0.1)
    again = pack_seconds(made_work(Saving(fused=False, checkpointed=True)), H200, slow)
    assert again.backward_s == pytest.approx(12 * 53 * 0.1)  # and the forward's once more


def test_a_step_adds_up():
    work = made_work(lanes=4)
    pack = pack_seconds(work, H200, FACTS)
    step = step_seconds(work, H200, FACTS, ONE, PLAIN, packs=4)
    assert step.compute_s == pytest.approx(4 * pack.total_s)
    assert step.exposed_s == step.communication_s == 0
    assert step.optimizer_s == pytest.approx(52 * work.parameters.total / (4300e9 * 0.85))
    assert step.total_s == step.compute_s + step.optimizer_s


def test_targets_wait_for_all_ranks():
    heads = ObjectiveConfig(
        head=HeadConfig(prototypes=1000), ibot_head=HeadConfig(prototypes=500), sinkhorn_iterations=2
    )
    sums = [all_reduce_seconds(bytes_, links(2)) for bytes_ in (4000, 8000, 2000, 4000)]
    assert sinkhorn_seconds(heads, links(2)) == pytest.approx(2 * sum(sums))
    assert sinkhorn_seconds(heads, ONE) == 0


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("size", ["small", "giant"])
def test_more_nodes_expose_more_and_step_quicker(engine, size):
    work = fused(made_work(size=size, lanes=128))
    steps = [step_seconds(work, H200, FACTS, links(n), engine, 128 // (4 * n)) for n in (1, 2, 4, 8, 16, 32)]
    totals = [step.compute_s for step in steps]
    assert totals == sorted(totals, reverse=True)
    assert all(0 <= step.exposed_s <= step.communication_s for step in steps)
    same = [step_seconds(work, H200, FACTS, links(n), engine, 4).exposed_s for n in (1, 2, 4, 8, 16, 32)]
    assert same == sorted(same)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_that_travel_meanwhile_expose_less_than_in_the_open(stage):
    work = made_work(size="large", lanes=8)
    engines = (zero(stage), zero(stage, ZeroConfig(overlap=True)))
    after, beside = (step_seconds(work, H200, FACTS, links(2), e, 1).exposed_s for e in engines)
    assert beside < after


def test_the_host_moves_what_is_offloaded():
    work, engine = made_work(size="large", lanes=8), zero(2, ZeroConfig(offload=True))
    seconds = step_seconds(work, H200, FACTS, links(2), engine, 1).optimizer_s
    assert seconds == pytest.approx(work.parameters.total / 8 * FACTS.times["offload_ns"].value * 1e-9)


def test_checkpointing_gathers_weights_once_more():
    work = made_work(size="large", lanes=8)
    again = replace(work, saving=replace(work.saving, checkpointed=True))
    talks = [step_seconds(of, H200, FACTS, links(2), zero(3), 1).communication_s for of in (work, again)]
    assert talks[1] - talks[0] == pytest.approx(gather_seconds(4 * work.parameters.total, links(2)))


def test_more_of_anything_takes_longer():
    def seconds(work: Workload) -> float:
        return pack_seconds(work, H200, FACTS).total_s

    assert seconds(made_work(size="base")) > seconds(made_work())
    assert seconds(made_work(drop_path=0.4)) < 1.2 * seconds(made_work())
    more = made_work(Saving(fused=False))
    assert seconds(replace(more, pack_tokens=65_536)) > 1.8 * seconds(more)
