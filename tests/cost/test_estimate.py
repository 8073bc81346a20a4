from dataclasses import replace
from pathlib import Path

import pytest
from made_work import made_tokens, made_work

from aqqua.cost.engines import ENGINES
from aqqua.cost.estimate import as_dinov2, first_that_fits, gpu_hours_at, memory_of, predict, workload
from aqqua.cost.facts import load_facts
from aqqua.train.settings import PretrainConfig

FACTS = load_facts()


def config(**sections: dict) -> PretrainConfig:
    values = {"run": Path("run"), "data": {"path": Path("data")}, "train": {"images": 1}, **sections}
    return PretrainConfig.model_validate(values)


def test_who_serves_is_as_the_config_says():
    auto = workload(config(), made_tokens())
    found = (auto.saving.fused, auto.fused_attention, auto.fused_optimizer)
    assert found == (False, False, False)  # none is measured yet
    assert auto.saving.losses == "reference"
    ours = config(
        model={"kernels": "triton", "attention": "triton", "activation_checkpointing": True},
        objective={"kernels": "recompute"},
        optim={"backend": "triton"},
    )
    work = workload(ours, made_tokens())
    assert work.saving.fused
    assert work.fused_attention
    assert work.fused_optimizer
    assert (work.saving.losses, work.saving.checkpointed) == ("recompute", True)
    assert workload(config(objective={"kernels": "triton"}), made_tokens()).saving.losses == "triton"


def test_the_same_model_at_224_98():
    run = config(model={"patch_px": 8, "registers": 4})
    fixed = as_dinov2(run, workload(run, made_tokens()))
    assert fixed.model.patch_px == 14
    assert fixed.tokens.student.tokens == 2 * 261 + 8 * 54
    assert fixed.saving == workload(run, made_tokens()).saving


def test_the_simplest_engine_that_fits():
    work = made_work(size="giant", lanes=8)
    need = {engine.name: memory_of(work, engine, 8).total for engine in ENGINES}
    assert first_that_fits(work, 8, need["plain"] + 1).name == "plain"
    assert first_that_fits(work, 8, need["plain"] - 1).name == "ZeRO 1"
    assert first_that_fits(work, 8, need["ZeRO 3"]).name == "ZeRO 3"
    assert first_that_fits(work, 8, 0).name == min(need, key=lambda name: need[name])


def test_a_prediction_adds_up():
    work = made_work()
    at = predict(work, FACTS, "H100", 2, 4, images_total=1e9, grant_hours=1000.0)
    assert (at.gpus, at.packs) == (8, 8)
    assert at.images_s == pytest.approx(work.images_per_step / at.step.total_s)
    assert at.gpu_hours == at.gpu_hours_per_billion == pytest.approx(1e9 / at.images_s / 3600 * 8)
    assert at.hours == pytest.approx(at.gpu_hours / 8)
    assert at.kwh == at.gpu_hours * FACTS.gpu("H100").wall_kw.value
    assert at.grant_share == pytest.approx(at.gpu_hours / 1000)
    assert at.mfu == pytest.approx(work.flops.total * at.images_s / 8 / 989e12)
    assert at.memory_limit == pytest.approx(80e9 * FACTS.shares["memory"].value)
    assert at.fits
    # At the predicted MFU the oldest estimate says the same.
    assert gpu_hours_at(work.flops.total, 1e9, 989, at.mfu) == pytest.approx(at.gpu_hours)


def test_a_run_of_unknown_length_has_no_hours():
    at = predict(made_work(), FACTS, "H100", 1, 1, grant_hours=10.0)
    assert at.gpu_hours is at.hours is at.kwh is at.grant_share is None
    assert at.gpu_hours_per_billion > 0


@pytest.mark.parametrize("name", FACTS.gpus)
def test_more_nodes_are_quicker_and_dearer(name):
    found = [predict(made_work(), FACTS, name, nodes, 4) for nodes in (1, 2, 4, 8, 16)]
    speeds, prices = ([getattr(p, what) for p in found] for what in ("images_s", "gpu_hours_per_billion"))
    assert speeds == sorted(speeds)
    assert prices == sorted(prices)


def test_what_does_not_fit_says_so():
    giant = replace(made_work(size="giant"), pack_tokens=1 << 20)
    assert not predict(giant, FACTS, "A100-40", 1, 4).fits


def test_the_published_gpu_hours():
    # 3e9 images of 0.511 TFLOP at half of 989 and of 312 TFLOP/s: 859 and 2,723 GPU-hours.
    assert gpu_hours_at(0.511e12, 3e9, 989, 0.5) == pytest.approx(859, rel=0.01)
    assert gpu_hours_at(0.511e12, 3e9, 312, 0.5) == pytest.approx(2723, rel=0.01)
