"""What a path means: a run's teacher, an exported file, or one clear sentence."""

import json
import shutil

import numpy as np
import pytest
import torch

from aqqua.evaluate.features import all_features, fingerprint
from aqqua.evaluate.models import load_embedder, run_config, save_embedder, untrained
from aqqua.store.read import Dataset
from aqqua.train import checkpoint


def test_a_run_gives_its_teacher(tiny_run):
    saved, config = checkpoint.load_newest(tiny_run / "checkpoints"), run_config(tiny_run)
    assert saved
    assert config
    embedder = load_embedder(tiny_run)
    for name, tensor in embedder.backbone.state_dict().items():
        assert torch.equal(tensor.cpu(), saved.tensors[f"teacher.backbone.{name}"]), name
    differ = [
        n for n, t in embedder.backbone.state_dict().items()
        if not torch.equal(t.cpu(), saved.tensors[f"student.backbone.{n}"])
    ]  # fmt: skip
    assert differ  # the student has moved on
    assert not embedder.backbone.training
    assert embedder.views == config.views


def test_the_newest_checkpoint_counts(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    newest = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert newest
    moved = {name: t + 1 if t.is_floating_point() else t for name, t in newest.tensors.items()}
    checkpoint.save(
        tmp_path / "run" / "checkpoints", checkpoint.Checkpoint(newest.step + 1, moved, newest.state)
    )
    got = load_embedder(tmp_path / "run").backbone.state_dict()
    name = next(iter(got))
    assert torch.equal(got[name].cpu(), moved[f"teacher.backbone.{name}"])


def test_export_and_back_gives_the_same_embeddings(tiny_run, sample_dataset, tmp_path):
    embedder, dataset = load_embedder(tiny_run, "cls+mean"), Dataset.open(sample_dataset)
    save_embedder(embedder, tmp_path / "deep" / "model.safetensors")
    again = load_embedder(tmp_path / "deep" / "model.safetensors", "cls+mean")
    assert fingerprint(again.backbone) == fingerprint(embedder.backbone)
    assert again.views == embedder.views
    np.testing.assert_array_equal(all_features(again, dataset), all_features(embedder, dataset))


def test_untrained_is_the_same_architecture_with_other_weights(tiny_run):
    embedder = load_embedder(tiny_run)
    fresh = untrained(embedder, seed=0)
    assert fresh.backbone.config == embedder.backbone.config
    assert fresh.views == embedder.views
    assert fingerprint(fresh.backbone) != fingerprint(embedder.backbone)
    assert fingerprint(untrained(embedder, 0).backbone) == fingerprint(fresh.backbone)


def test_wrong_paths(tiny_run, sample_dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00")
    shutil.copytree(tiny_run, tmp_path / "no_checkpoint")
    shutil.rmtree(tmp_path / "no_checkpoint" / "checkpoints")
    said = {
        tmp_path / "absent": "the path must exist",
        tmp_path / "absent.safetensors": "the path must exist",
        tmp_path / "empty": "must be a run with a checkpoint",
        sample_dataset: "must be a run with a checkpoint",
        tmp_path / "no_checkpoint": "must be a run with a checkpoint",
        tmp_path / "weights.pth": "must be a .safetensors file",
        tmp_path / "torn.safetensors": "must be a whole safetensors file",
    }
    for path, sentence in said.items():
        with pytest.raises(ValueError, match=sentence) as caught:
            load_embedder(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_run_whose_checkpoints_are_all_broken(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    for manifest in (tmp_path / "run" / "checkpoints").glob("*/manifest.json"):
        manifest.write_text(json.dumps({"format_version": 1}))
    with pytest.raises(ValueError, match="must verify"):
        load_embedder(tmp_path / "run")


def test_export_refuses_a_used_name_and_one_it_could_not_read_back(tiny_run, tmp_path):
    embedder = load_embedder(tiny_run)
    (tmp_path / "there.safetensors").write_text("mine")
    with pytest.raises(ValueError, match="must not exist yet"):
        save_embedder(embedder, tmp_path / "there.safetensors")
    assert (tmp_path / "there.safetensors").read_text() == "mine"
    with pytest.raises(ValueError, match=r"must be named \.safetensors"):
        save_embedder(embedder, tmp_path / "model.bin")
    assert not (tmp_path / "model.bin").exists()


def test_one_checkpoint_of_a_run_can_be_named(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    newest = checkpoint.load_newest(folder)
    assert newest
    earlier = folder / f"step-{newest.step:012d}"
    moved = {name: t + 1 if t.is_floating_point() else t for name, t in newest.tensors.items()}
    checkpoint.save(folder, checkpoint.Checkpoint(newest.step + 1, moved, newest.state))
    assert run_config(earlier) == run_config(tiny_run)
    assert fingerprint(load_embedder(earlier).backbone) == fingerprint(load_embedder(tiny_run).backbone)
    assert fingerprint(load_embedder(folder.parent).backbone) != fingerprint(load_embedder(earlier).backbone)
    (earlier / "tensors.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="must be whole"):
        load_embedder(earlier)
