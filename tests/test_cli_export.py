"""Export in each form, and back: nothing is lost on the way to others."""

import json

import numpy as np
import pytest
import torch

from aqqua.cli import main
from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.model.weights import load_pretrained, save_model
from aqqua.store.read import Dataset
from aqqua.store.release import FIELDS


def images(dataset: Dataset, prefix: str) -> dict[str, tuple[dict, np.ndarray]]:
    """image_id without `prefix` -> its metadata and pixels."""
    found = {}
    for number, block in enumerate(dataset.iter_blocks()):
        rows = dataset.table(["image_id", *FIELDS], [number]).to_pylist()
        for i, row in enumerate(rows):
            name = row.pop("image_id")
            assert name.startswith(prefix)
            found[name.removeprefix(prefix)] = row, block.pixels(i).copy()
    return found


def test_a_release_of_a_dataset_reads_back_equal(tmp_path, sample_dataset, capsys):
    release, again = tmp_path / "release", tmp_path / "again"
    assert (
        main(["export", str(sample_dataset), "--format", "aqqua-release", "--out", str(release), "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told == {"out": str(release), "images": 150}
    assert main(["ingest", str(release), "--out", str(again), "--workers", "1"]) == 0
    want = images(Dataset.open(sample_dataset), "")
    got = images(Dataset.open(again), "release/")
    assert got.keys() == want.keys()
    for name, (row, pixels) in want.items():
        assert got[name][0] == row
        assert got[name][1].dtype == pixels.dtype
        np.testing.assert_array_equal(got[name][1], pixels)


def test_hugging_face_form_holds_the_same_weights(tmp_path, capsys):
    config = ModelConfig(
        width=32, layers=2, heads=2, patch_px=14, registers=1, position="learned",
        position_interpolation="size", scale_token=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = VisionTransformer(config)
    save_model(tmp_path / "m.safetensors", model, config)
    out = tmp_path / "hub"
    assert (
        main(["export", str(tmp_path / "m.safetensors"), "--format", "hugging-face", "--out", str(out)]) == 0
    )
    assert "MB" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((out / "config.json").read_text())["model_type"] == "dinov2_with_registers"
    back = load_pretrained(out / "model.safetensors", config).state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(back[name], tensor, msg=name)


@pytest.mark.parametrize("name", ["sample.yaml", "configs/sample.yaml"])
def test_a_run_that_came_with_aqqua_is_found_anywhere(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", name, "--print-config"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"note: {name} is not here; taking the one that came with aqqua\n"
    assert "pack_tokens" in captured.out
    (tmp_path / "configs").mkdir()
    (tmp_path / name).write_text("rum: x\n")
    assert main(["pretrain", name, "--print-config"]) == 2  # the user's own goes first
    assert "rum" in capsys.readouterr().err
