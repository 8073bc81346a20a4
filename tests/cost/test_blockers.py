from dataclasses import replace
from pathlib import Path

import pytest
from made_work import made_work

from aqqua.cost import blockers
from aqqua.cost.activations import Saving
from aqqua.cost.engines import PLAIN
from aqqua.cost.estimate import predict
from aqqua.cost.facts import load_facts
from aqqua.cost.memory import checkpoint_bytes
from aqqua.cost.parameters import network_parameters
from aqqua.train.settings import PretrainConfig


def config(run: Path = Path("run"), **sections: dict) -> PretrainConfig:
    values = {"run": run, "data": {"path": Path("data")}, **sections}
    values["train"] = {"images": 1, **sections.get("train", {})}
    return PretrainConfig.model_validate(values)


def test_a_fine_config_has_none(tmp_path):
    assert list(blockers.of_config(config())) == []
    assert list(blockers.of_disk(config(tmp_path / "a" / "b"))) == []


def test_a_pack_too_small():
    (line,) = blockers.of_config(config(data={"path": "x", "pack_tokens": 1000}))
    assert line.startswith("data.pack_tokens must hold the views of the largest image, 1074 tokens, got 1000")


@pytest.mark.parametrize("train", [{"precision": "float32"}, {"device": "cpu"}])
def test_what_is_not_predicted(train):
    (line,) = blockers.of_config(config(train=train))
    assert line.startswith("mixed precision on a GPU is what is predicted, got train.precision=")


def test_a_disk_too_small(tmp_path, monkeypatch):
    run = config(tmp_path / "not" / "there", train={"keep_checkpoints": 4})
    needed = 5 * checkpoint_bytes(network_parameters(run.model, run.objective))
    asked = []
    monkeypatch.setattr(blockers, "_free_bytes", lambda place: asked.append(place) or needed)
    assert list(blockers.of_disk(run)) == []
    monkeypatch.setattr(blockers, "_free_bytes", lambda _: needed - 1)
    (line,) = blockers.of_disk(run)
    assert asked == [tmp_path]
    assert line.startswith(f"the disk of {tmp_path} must hold 5 checkpoints, {needed / 1e9:.1f} GB, got ")


def test_only_a_run_that_fits_nowhere_is_in_the_way():
    facts = load_facts()
    large = replace(made_work(size="giant", lanes=8), pack_tokens=24_576)
    small, big = (predict(large, facts, name, 1, 1) for name in ("A100-40", "H200"))
    assert (small.fits, big.fits) == (False, True)
    assert list(blockers.of_memory([small, big], large)) == list(blockers.of_memory([], large)) == []
    (line,) = blockers.of_memory([small], large)
    assert f"{small.memory.total / 1e9:.0f} GB at least" in line
    assert "got 37 GB; lower data.pack_tokens, or set model.activation_checkpointing=true" in line


def test_an_engine_that_would_do_is_named():
    """On eight of them the plain engine has no room, a stage of ZeRO has."""
    facts, large = load_facts(), made_work(Saving(fused=False, checkpointed=True), size="giant", lanes=8)
    large = replace(large, pack_tokens=16_384)
    mine = predict(large, facts, "A100-40", 2, 4, engines=[PLAIN])
    (line,) = blockers.of_memory([mine], large)
    assert "(plain on 8 A100-40)" in line
    assert "got 37 GB; set train.engine=zero train.zero.stage=1, lower data.pack_tokens" in line
