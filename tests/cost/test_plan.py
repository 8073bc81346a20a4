import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aqqua.config import ConfigError
from aqqua.cost.machines import Kind
from aqqua.cost.plan import Plan, Question, make_plan
from aqqua.cost.table import lines, values

SMALL = {
    "data": {"lanes": 8, "pack_tokens": 4096, "holdout": 0.2},
    "views": {"locals": 3, "max_tokens": [64, 16]},
    "model": {"size": "tiny", "patch_px": 12},
    "train": {"epochs": 100},
}


@pytest.fixture
def question(tmp_path: Path, sample_dataset: Path) -> Question:
    path = tmp_path / "run.yaml"
    config = {**SMALL, "run": str(tmp_path / "run"), "data": {**SMALL["data"], "path": str(sample_dataset)}}
    path.write_text(yaml.safe_dump(config))
    return Question(path)


def told(plan: Plan) -> str:
    return "\n".join(lines(plan))


def test_one_gpu_of_every_kind(question):
    plan = make_plan(question)
    assert plan.blockers == ()
    assert plan.images_total == pytest.approx(150 * 0.8 * 100)
    assert plan.native is not None
    assert [(p.gpu, p.nodes, p.gpus, p.packs) for p in plan.native.predictions] == [
        (gpu, 1, 1, 8) for gpu in ("A100-40", "H100", "H200")
    ]
    text = told(plan)
    assert "tokens     measured: " in text
    assert "at 224/98" in text
    assert "224/98 takes" in text
    assert "in the way" not in text
    assert "This is a model: no step of this run has been timed" in text


def test_whole_nodes_of_a_cluster(question):
    kind = Kind("H100", 4, 21, "gpu-h100")
    plan = make_plan(replace(question, kind=kind, nodes="1..32", grant=10.0, confirm=("the NICs",)))
    assert plan.native is not None
    assert [(p.nodes, p.gpus) for p in plan.native.predictions] == [(1, 4), (2, 8)]
    assert all(p.grant_share == pytest.approx(p.gpu_hours / 10) for p in plan.native.predictions)
    assert plan.blockers == ()
    assert plan.notes[0] == "confirm on site: the NICs"
    assert "of 1..32 nodes, those" in told(plan)


def test_without_a_dataset_only_what_is_in_the_way(question):
    plan = make_plan(replace(question, overrides=("data.path=nowhere",)))
    (blocker,) = plan.blockers
    assert blocker.startswith("data.path must be a dataset: ")
    assert "--tokens isiis or --tokens 60,20 goes on without it" in blocker
    assert plan.native is plan.fixed is plan.images_total is None
    assert told(plan).startswith("in the way data.path must be a dataset")


def test_stated_tokens_go_on_without_a_dataset(question):
    plan = make_plan(replace(question, overrides=("data.path=nowhere",), tokens="30,9"))
    assert len(plan.blockers) == 1
    assert "goes on without it" not in plan.blockers[0]
    assert plan.native is not None
    assert plan.native.work.tokens.known == "assumed"
    assert plan.native.predictions[0].gpu_hours is None
    assert "tokens     assumed: stated: 30 patches" in told(plan)


def test_every_blocker_is_told_at_once(question):
    asked = ("data.path=nowhere", "data.pack_tokens=100", "data.lanes=6", "train.precision=float32")
    plan = make_plan(replace(question, overrides=asked, nodes="1,2"))
    starts = ("data.lanes", "data.lanes", "data.pack_tokens", "mixed precision", "data.path")
    assert len(plan.blockers) == len(starts)
    assert all(line.startswith(start) for line, start in zip(plan.blockers, starts, strict=True))


def test_a_pack_too_small_is_told_once(question):
    plan = make_plan(replace(question, overrides=("data.pack_tokens=100",)))
    assert len(plan.blockers) == 1
    assert plan.native is None


def test_a_run_that_fits_nowhere_is_in_the_way(question):
    large = ("model.size=giant", "data.pack_tokens=4194304")
    plan = make_plan(replace(question, overrides=large, kind=Kind("H100", 4, 21, "x"), tokens="60,20"))
    assert any(line.startswith("a GPU must hold the run, ") for line in plan.blockers)
    assert "does not fit" in told(plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overrides": ("model.widht=3",)}, "did you mean model.width"),
        ({"nodes": "none"}, "--nodes must be a number"),
        ({"grant": 0.0}, "--grant must be above 0, got 0"),
        ({"grant": float("nan")}, "--grant must be above 0"),
        ({"gpus_per_node": 0}, "--gpus-per-node must be above 0, got 0"),
        ({"tokens": "many"}, "--tokens must be isiis or law"),
        ({"kind": Kind("B200", 4, None, "x")}, "the GPU must be one of"),
    ],
)
def test_what_cannot_be_understood(question, change, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        make_plan(replace(question, **change))


def test_values_for_machines_are_those_for_people(question):
    plan = make_plan(replace(question, nodes="2", kind=Kind("H200", 4, None, "x"), grant=100.0))
    found: dict[str, Any] = json.loads(json.dumps(values(plan)))
    (prediction,) = found["native"]["predictions"]
    assert plan.native is not None
    at = plan.native.predictions[0]
    assert prediction["step"]["total_s"] == at.step.total_s
    assert prediction["memory_by_engine"]["plain"] == at.memory.total
    assert prediction["fits"] is True
    assert found["native"]["flops_per_image"]["total"] == plan.native.work.flops.total
    assert found["fixed_224_98"]["predictions"][0]["gpu_hours"] > prediction["gpu_hours"]
    assert found["facts"]["gpus"]["H200"]["copy_gb_s"]["known"] in ("measured", "published", "assumed")
    assert found["blockers"] == []
    assert len(found["native"]["bytes_per_pass"]) == 6


def test_the_configured_engine_is_predicted_and_told_first(question):
    zero = ("train.engine=zero", "train.zero.stage=2")
    plan = make_plan(replace(question, kind=Kind("H100", 4, 21, "x"), nodes="2", overrides=zero))
    assert plan.native is not None
    assert [p.engine for p in plan.native.predictions] == ["ZeRO 2"]
    first = [line.split()[0:2] for line in lines(plan) if line.lstrip().startswith(("plain", "ZeRO"))][:2]
    assert first == [["ZeRO", "2"], ["plain", first[1][1]]]
    assert next(iter(values(plan)["native"]["predictions"][0]["memory_by_engine"])) == "ZeRO 2"


def test_how_gradients_are_summed_shows(question):
    def exposed(*overrides: str) -> float:
        plan = make_plan(replace(question, kind=Kind("H100", 4, 21, "x"), nodes="2", overrides=overrides))
        assert plan.native is not None
        return plan.native.predictions[0].step.exposed_s

    assert exposed("train.gradient_sum=float32") < exposed() < exposed("train.deterministic=true")


def test_one_of_a_thing_is_told_as_one(question):
    text = told(
        make_plan(replace(question, overrides=("data.lanes=1", "train.epochs=null", "train.images=1")))
    )
    assert "run        1 image, 0 steps of 1 pack" in text
    assert "GB of each of 1 GPU, packs of a step on each: 1" in text


def test_lines_fit_a_page_but_for_wide_tables(question):
    text = lines(make_plan(replace(question, kind=Kind("H100", 4, 21, "gpu-h100"), nodes="1..32")))
    assert max(map(len, text)) <= 160
    prose = [line for line in text if not line.startswith(" " * 11)]
    assert all(len(line) <= 112 for line in prose), max(prose, key=len)
