"""A small student of a larger, frozen network: a whole run, its resume, its ranks, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crew import train_well
from same_run import assert_same_run, numbers, saved

from aqqua.cli import main
from aqqua.evaluate.models import load_embedder
from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.model.weights import save_model
from aqqua.train.distill import find_teacher
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import rates_at, take_step

STEPS = 6
MakeConfig = Callable[..., PretrainConfig]
LARGER = {"width": 48, "layers": 3, "heads": 4, "registers": 2}


@pytest.fixture(scope="module")
def teacher(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A larger network, three steps old, with a head of another hidden width."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    head = {"prototypes": 64, "hidden": 40, "bottleneck": 24}
    pretrain(make_config(folder, model=LARGER, objective={"head": head}, train={"max_steps": 3}))
    return folder


@pytest.fixture(scope="module")
def distilled(make_config: MakeConfig, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("distilled") / "run"
    pretrain(student(make_config, folder, teacher))
    return folder


def student(make_config: MakeConfig, folder: Path, teacher: Path, **rooms: Any) -> PretrainConfig:
    train = {"max_steps": STEPS, **rooms.pop("train", {})}
    return make_config(folder, distill={"teacher": teacher}, train=train, **rooms)


def test_the_student_sees_everything_and_the_teacher_names_all_of_it(make_config, teacher, tmp_path):
    """No mask and no drop-path, though the config has both; iBOT on every patch of both globals."""
    config = student(make_config, tmp_path / "run", teacher, model={"drop_path": 0.3})
    run = open_run(config)
    data = run.feeder.step(run.lanes, run.step)
    for batch in data.batches:
        assert batch.drop_scores_L2V is None
        assert not batch.mask_N.any()
        assert torch.equal(batch.masked_M, torch.arange(batch.teacher.patches))
        views = torch.zeros(batch.teacher.views).index_add(0, batch.teacher.view_N, batch.weight_M)
        torch.testing.assert_close(views, torch.ones(batch.teacher.views))
    follows = run.model.followed
    assert follows is not None
    before = {name: tensor.clone() for name, tensor in follows.network.state_dict().items()}
    outcome = take_step(run, data, rates_at(run))
    assert outcome.taken
    assert all(torch.equal(before[name], tensor) for name, tensor in follows.network.state_dict().items())


def test_the_final_model_is_a_moving_average_of_the_student(distilled, teacher):
    found, source = saved(distilled), saved(teacher)
    assert found.state["distill"] == find_teacher(teacher).state["sha256"]
    assert not any("followed" in name for name in found.tensors)
    name = "backbone.blocks.1.mlp.fc1.weight"
    average, last = found.tensors[f"teacher.{name}"], found.tensors[f"student.{name}"]
    assert average.shape == last.shape != source.tensors[f"teacher.{name}"].shape
    assert not torch.equal(average, last)
    embedder = load_embedder(distilled, device=torch.device("cpu"))  # what export and evaluate take
    assert torch.equal(embedder.backbone.state_dict()["blocks.1.mlp.fc1.weight"], average)


def test_the_student_learns_what_the_teacher_says(make_config, teacher, tmp_path):
    """The loss falls towards the targets, whose source does not move."""
    config = student(make_config, tmp_path, teacher, objective={"koleo_weight": 0.0}, train={"max_steps": 12})
    pretrain(config)
    losses = [row["loss"] for row in numbers(tmp_path)]
    for part in ("dino", "ibot"):
        assert losses[-1][part] < losses[0][part] - 0.05, part


@pytest.mark.parametrize("form", ["checkpoint", "file"])
def test_a_resumed_run_is_the_run_whatever_form_the_teacher_has(
    distilled, make_config, teacher, tmp_path, form
):
    if form == "checkpoint":
        again = next((teacher / "checkpoints").glob("step-*"))
    else:
        again = tmp_path / "teacher.safetensors"
        assert main(["export", str(teacher), "--format", "teacher", "--out", str(again)]) == 0
    for stop in (2, STEPS):
        pretrain(student(make_config, tmp_path / "run", again, train={"max_steps": stop}))
    assert_same_run(tmp_path / "run", distilled)


def test_two_ranks_are_the_same_run(distilled, make_config, teacher, tmp_path):
    train_well(2, student(make_config, tmp_path / "run", teacher))
    assert_same_run(tmp_path / "run", distilled)


def test_another_teacher_does_not_continue_a_run(make_config, teacher, tmp_path):
    pretrain(student(make_config, tmp_path / "run", teacher, train={"max_steps": 1}))
    with pytest.raises(ValueError, match=r"distill\.teacher must be the network .* got none"):
        pretrain(make_config(tmp_path / "run", train={"max_steps": 2}))
    other = make_config(
        tmp_path / "other", model=LARGER, train={"max_steps": 1},
        objective={"head": {"prototypes": 64, "hidden": 8, "bottleneck": 8}},
    )  # fmt: skip
    pretrain(other)
    with pytest.raises(ValueError, match=r"began with, \w{12}, got .*other \(\w{12}\); name"):
        pretrain(student(make_config, tmp_path / "run", other.run, train={"max_steps": 2}))


@pytest.mark.parametrize(
    ("rooms", "said"),
    [
        ({"model": {"patch_px": 10}}, r"sides that .* has learned, 8 px, got 10; set model\.patch_px=8"),
        ({"views": {"patch_choices": [8, 6]}}, r"has learned, 8 px, got 6; set model\.patch_px=8"),
        ({"model": {"channels": 3}}, r"model\.channels must be that of .*, 1, got 3; set model\.channels=1"),
        (
            {"objective": {"head": {"prototypes": 32}}},
            r"objective\.head\.prototypes must be .*, 64, got 32; set objective\.head\.prototypes=64",
        ),
        (
            {"objective": {"ibot_head": {"prototypes": 64}}},
            r"ibot_head\.prototypes must be .*, none, got 64; set objective\.ibot_head=null",
        ),
        ({"views": {"std": 0.5}}, r"views\.std must be .*, 0\.25, got 0\.5; set views\.std=0\.25"),
    ],
)
def test_a_student_that_cannot_follow_is_refused(make_config, teacher, tmp_path, rooms, said):
    with pytest.raises(ValueError, match=said):
        pretrain(student(make_config, tmp_path / "run", teacher, **rooms))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_teacher_without_heads_or_checkpoint_is_refused(make_config, tmp_path):
    backbone = ModelConfig(width=16, layers=1, heads=2, patch_px=8)
    save_model(tmp_path / "m.safetensors", VisionTransformer(backbone), backbone)
    with pytest.raises(ValueError, match=r"must have the heads .* only a backbone; give the run folder"):
        pretrain(student(make_config, tmp_path / "run", tmp_path / "m.safetensors"))
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        pretrain(student(make_config, tmp_path / "run", tmp_path / "notes.txt"))
    with pytest.raises(ValueError, match=r"must be a run with a checkpoint, .* got .*nowhere"):
        pretrain(student(make_config, tmp_path / "run", tmp_path / "nowhere"))
