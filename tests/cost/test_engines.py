from pathlib import Path
from typing import Any

import pytest

from aqqua.cost.collectives import (
    Links,
    all_reduce_seconds,
    broadcast_seconds,
    gather_seconds,
    scatter_seconds,
)
from aqqua.cost.engines import ENGINES, Engine, communication, engines_of, plain, zero
from aqqua.train.settings import PretrainConfig, TrainConfig
from aqqua.train.zero_config import ZeroConfig

BY_NAME = {engine.name: engine for engine in ENGINES}
P = 300_000_000
LINKS = Links(4, 2, 100e9, 50e9, 1e-6, 1e-5)
SLOW, QUICK = 100.0, 0.0  # seconds of computing that hide everything, or nothing
OVERLAPPING = ZeroConfig(overlap=True)
IN_ORDER = plain(TrainConfig(images=1, deterministic=True))


def talk(
    engine: str | Engine, packs: int = 3, seconds: float = QUICK, links: Links = LINKS, again: bool = False
):
    engine = BY_NAME[engine] if isinstance(engine, str) else engine
    return communication(engine, P, links, packs, seconds, seconds, again)


def test_communication_by_hand():
    sum4, scatter4, gather4 = (
        of(4 * P, LINKS) for of in (all_reduce_seconds, scatter_seconds, gather_seconds)
    )
    assert talk("plain").total_s == talk("plain").exposed_s == all_reduce_seconds(8 * P, LINKS)
    # DeepSpeed sums whole buckets on all ranks in stages 1 and 2; only stage 3 scatters the sums.
    assert talk("ZeRO 1").total_s == pytest.approx(sum4 + gather4)
    assert talk("ZeRO 2").total_s == pytest.approx(3 * sum4 + gather4)
    everywhere = 2 * gather4 + scatter4 + gather4
    assert talk("ZeRO 3").total_s == pytest.approx(3 * everywhere)
    assert talk("ZeRO 3", again=True).total_s == pytest.approx(3 * (everywhere + gather4))
    for engine in (*ENGINES, *(zero(stage, OVERLAPPING) for stage in (1, 2, 3))):
        assert talk(engine).exposed_s == pytest.approx(talk(engine).total_s)


def test_the_plain_engine_sends_what_the_config_says():
    assert talk(plain(TrainConfig(images=1, gradient_sum="float32"))).total_s == all_reduce_seconds(
        4 * P, LINKS
    )
    # Every rank tells each of its packs' gradients: 3 packs of 8 ranks.
    assert talk(IN_ORDER).total_s == pytest.approx(24 * broadcast_seconds(4 * P, LINKS))
    assert talk(IN_ORDER, seconds=SLOW).exposed_s == talk(IN_ORDER).total_s


def test_what_computing_hides():
    scatter4, gather4 = scatter_seconds(4 * P, LINKS), gather_seconds(4 * P, LINKS)
    assert talk("plain", seconds=SLOW).exposed_s == talk("plain").exposed_s  # after the last pack
    for stage in (1, 2):  # by default DeepSpeed reduces after the backward pass, in the open
        assert talk(f"ZeRO {stage}", seconds=SLOW).exposed_s == talk(f"ZeRO {stage}").total_s
        assert talk(zero(stage, OVERLAPPING), seconds=SLOW).exposed_s == pytest.approx(gather4)
    # The teacher's gather waits always; the student's are fetched ahead.
    assert talk("ZeRO 3", seconds=SLOW).exposed_s == pytest.approx(3 * (scatter4 + gather4))
    assert talk(zero(3, OVERLAPPING), seconds=SLOW).exposed_s == pytest.approx(3 * gather4)
    nothing_ahead = zero(3, ZeroConfig(prefetch_bucket_size=0))
    assert talk(nothing_ahead, seconds=SLOW).exposed_s == pytest.approx(talk("ZeRO 3").total_s)


def test_stage_3_hides_as_much_as_each_pass_is_long():
    scatter4, gather4 = scatter_seconds(4 * P, LINKS), gather_seconds(4 * P, LINKS)
    some = 0.5 * gather4
    got = communication(zero(3, OVERLAPPING), P, LINKS, 1, some, 1.5 * gather4)
    assert got.exposed_s == pytest.approx(3 * gather4 + scatter4 - some - 1.5 * gather4)


@pytest.mark.parametrize("engine", [*ENGINES, IN_ORDER, zero(3, OVERLAPPING)], ids=lambda e: e.name)
def test_more_nodes_never_expose_less(engine):
    exposed = [
        talk(engine, seconds=seconds, links=Links(4, nodes, 100e9, 50e9, 1e-6, 1e-5)).exposed_s
        for seconds in (0.0, 0.02)
        for nodes in (1, 2, 4, 8, 16, 32)
    ]
    assert exposed[:6] == sorted(exposed[:6])
    assert exposed[6:] == sorted(exposed[6:])
    assert all(late <= early for early, late in zip(exposed[:6], exposed[6:], strict=True))


@pytest.mark.parametrize("engine", [*ENGINES, IN_ORDER], ids=lambda e: e.name)
def test_one_rank_tells_nobody(engine):
    alone = talk(engine, links=Links(1, 1, 1, 1, 1, 1))
    assert (alone.total_s, alone.exposed_s) == (0, 0)


def config(train: dict[str, Any], **rooms: Any) -> PretrainConfig:
    values = {"run": Path("run"), "data": {"path": Path("data")}, "train": {"images": 1, **train}}
    return PretrainConfig.model_validate({**values, **rooms})


def test_the_configured_engine_is_first():
    assert [e.name for e in engines_of(config({}))] == ["plain", "ZeRO 1", "ZeRO 2", "ZeRO 3"]
    settings = {"stage": 2, "overlap": True, "offload": True, "reduce_bucket_size": 7}
    found = engines_of(config({"engine": "zero", "zero": settings}))
    assert [engine.name for engine in found] == ["ZeRO 2", "plain", "ZeRO 1", "ZeRO 3"]
    assert all((e.overlaps, e.offload, e.reduced_values) == (True, True, 7) for e in found if e.stage)
    assert engines_of(config({"gradient_sum": "float32"}))[0].gradient_wire == 4


def test_engines_that_the_config_rules_out_are_none():
    assert engines_of(config({"deterministic": True})) == (IN_ORDER,)
    again = engines_of(config({}, objective={"kernels": "recompute"}))
    assert [engine.name for engine in again] == ["plain", "ZeRO 1", "ZeRO 2"]
