"""The terms that are off by default, each in real runs: resume is exact, and so is any number of ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import train_well
from pydantic import ValidationError
from same_run import assert_same_run, numbers, saved

from aqqua.train.loop import pretrain
from aqqua.train.settings import PretrainConfig

MakeConfig = Callable[..., PretrainConfig]
GRAM = {"start_share": 0.3, "refresh_share": 0.2, "max_refreshes": 1, "scale": 2}
GUIDES = [
    {"field": "um_per_px"}, {"field": "instrument", "reverse": True}, {"field": "depth_m", "edges": [20.0]},
    {"field": "region"},
]  # fmt: skip
TERMS: dict[str, dict[str, Any]] = {
    "gram": {"gram": GRAM},
    "koleo": {"koleo_lanes": 2, "koleo_neighbours": 2},
    "guides": {"guides": GUIDES, "guiding": {"warmup_share": 0.2, "balance": True}},
}
STEPS = 9


@pytest.fixture(scope="module")
def config_of(make_config: MakeConfig, sample_dataset: Path) -> MakeConfig:
    """About ten steps of four packs of the sample, with drop-path."""

    def make(folder: Path, objective: dict[str, Any], **train: Any) -> PretrainConfig:
        head = {"prototypes": 64, "hidden": 32, "bottleneck": 16}
        return make_config(
            folder,
            data={"path": sample_dataset, "lanes": 4, "pack_tokens": 800},
            model={"drop_path": 0.2},
            objective={"head": head, **objective},
            train={"images": 200, "max_steps": STEPS, **train},
        )

    return make


@pytest.mark.parametrize("term", TERMS)
def test_resume_and_any_number_of_ranks_are_the_same_run(config_of, tmp_path, term):
    """One process at one go; then one for four steps, two for the rest."""
    pretrain(config_of(tmp_path / "alone", TERMS[term]))
    pretrain(config_of(tmp_path / "parts", TERMS[term], max_steps=4))
    train_well(2, config_of(tmp_path / "parts", TERMS[term]))
    assert_same_run(tmp_path / "parts", tmp_path / "alone")


@pytest.fixture(scope="module")
def everything(config_of: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all of them."""
    folder = tmp_path_factory.mktemp("terms") / "run"
    pretrain(config_of(folder, {name: value for term in TERMS.values() for name, value in term.items()}))
    return folder


def test_all_together_leave_their_numbers(everything):
    rows = numbers(everything)
    losses = rows[-1]["loss"]
    fields = [guide["field"] for guide in GUIDES]
    judged = ["error_um_per_px", "accuracy_instrument", "accuracy_depth_m", "error_region"]
    assert losses.keys() >= {"gram", *(f"guide_{field}" for field in fields), *judged}
    assert 0 <= losses["accuracy_instrument"] <= 1
    weights = [0.1, 0.01, 0.1, 0.1]  # a reversed one counts a tenth
    total = losses["dino"] + losses["ibot"] + 0.1 * losses["koleo"] + 2 * losses["gram"]
    total += sum(w * losses[f"guide_{field}"] for w, field in zip(weights, fields, strict=True))
    assert losses["total"] == pytest.approx(total, rel=1e-5)
    copies = [row["gram_copies"] for row in rows]
    assert copies == sorted(copies)
    assert set(copies) == {0, 1, 2}
    for row in rows:
        assert (row["loss"]["gram"] > 0) == (row["gram_copies"] > 0) == (row["gram_weight"] == 2.0)
    assert rows[0]["guiding"] == 0.0
    assert 0 < rows[-1]["guiding"] <= 1


def test_the_gram_teacher_is_frozen_between_its_copies(everything):
    tensors = saved(everything).tensors
    assert int(tensors["gram.copies"]) == 2
    frozen = [name for name in tensors if name.startswith("gram.backbone.")]
    assert frozen
    same = [torch.equal(tensors[name], tensors[name.replace("gram", "teacher")]) for name in frozen]
    assert not all(same)
    assert not any(name.startswith("optimizer.") and ".gram." in name for name in tensors)


def test_gram_may_be_turned_on_in_the_middle_of_a_run(config_of, tmp_path):
    pretrain(config_of(tmp_path / "run", {}, max_steps=2))
    pretrain(config_of(tmp_path / "run", TERMS["gram"]))
    assert int(saved(tmp_path / "run").tensors["gram.copies"]) == 2
    assert numbers(tmp_path / "run")[-1]["loss"]["gram"] > 0


def test_what_is_off_leaves_no_trace(config_of, tmp_path):
    """Neither weights nor draws of the others: the usual losses of the first step are the same."""
    pretrain(config_of(tmp_path / "off", {}, max_steps=1))
    pretrain(config_of(tmp_path / "on", TERMS["guides"], max_steps=1))
    off, on = (numbers(tmp_path / name)[0]["loss"] for name in ("off", "on"))
    assert off.keys() == {"dino", "ibot", "koleo", "total"}
    assert {name: on[name] for name in ("dino", "ibot", "koleo")} == {
        name: off[name] for name in ("dino", "ibot", "koleo")
    }
    assert not any("guide" in name or "gram" in name for name in saved(tmp_path / "off").tensors)


def test_groups_divide_the_lanes(config_of, tmp_path):
    with pytest.raises(ValidationError, match=r"koleo_lanes must divide data\.lanes, 4, got 3"):
        config_of(tmp_path, {"koleo_lanes": 3})


@pytest.mark.parametrize("term", TERMS)
def test_stage_3_of_zero_is_refused(config_of, tmp_path, term):
    zero = {"engine": "zero", "zero": {"stage": 3, "whole_below": 100}, "deterministic": False}
    with pytest.raises(ValidationError, match=r"objective\.\w+ cannot serve with train\.zero\.stage=3"):
        config_of(tmp_path, TERMS[term], **zero)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_stages_1_and_2_of_zero_are_the_plain_engine(config_of, everything, tmp_path, stage):
    pytest.importorskip("deepspeed")
    terms = {name: value for term in TERMS.values() for name, value in term.items()}
    zero = {"engine": "zero", "zero": {"stage": stage}, "deterministic": False}
    train_well(2, config_of(tmp_path / "run", terms, **zero, max_steps=5))
    pretrain(config_of(tmp_path / "run", terms))
    for got, want in zip(numbers(tmp_path / "run"), numbers(everything), strict=True):
        assert got["loss"] == pytest.approx(want["loss"], abs=2e-4)
    got, want = saved(tmp_path / "run").tensors, saved(everything).tensors
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        if name.startswith(("gram.", "teacher.")):
            torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=1e-4)
