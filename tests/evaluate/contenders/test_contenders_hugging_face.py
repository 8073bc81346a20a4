"""Folders of transformers: as transformers itself answers, whole weights only, no code, no pickle."""

import json
import shutil

import numpy as np
import pytest
import torch

from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.contenders.square_model import SquareModel
from aqqua.evaluate.contenders.torchvision_import import import_peer
from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer
from aqqua.model.weights import export_hugging_face

CPU = torch.device("cpu")
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def opened(spec, pooling="cls") -> SquareModel:
    contender = open_contender(spec, pooling, CPU)
    assert isinstance(contender, SquareModel)
    return contender


def saved(folder, kind, **config):
    transformers = import_peer("transformers")
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config)).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "dinov2"
    return folder, saved(folder, "Dinov2", **SMALL)


def test_answers_as_transformers_does(dinov2, dataset):
    folder, peer = dinov2
    contender = opened(f"hf:{folder}?size=42")
    with torch.no_grad():
        state = peer(
            pixel_values=torch.from_numpy(contender.view(dataset.block(3), 0)[None])
        ).last_hidden_state
    np.testing.assert_allclose(contender(dataset, 3), state[:, 0].numpy(), atol=1e-5)
    tokens, offsets = contender.patches(dataset, 3)
    np.testing.assert_allclose(tokens, state[0, 1:].numpy(), atol=1e-5)
    assert offsets.tolist() == [0, 9]
    assert contender.facts.kind == "hugging-face"
    assert contender.facts.input.startswith("42 × 42 px, 3 channels")
    assert contender.facts.key == opened(f"hf:{folder}?size=42").facts.key
    assert opened(f"hf:{folder}").view.size == 28


def test_the_key_knows_what_no_weight_shows(dinov2, tmp_path):
    folder, _ = dinov2
    key = {}
    for name, change in {"same": {"_name_or_path": "elsewhere"}, "other": {"hidden_act": "relu"}}.items():
        shutil.copytree(folder, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps(config | change))
        key[name] = opened(f"hf:{tmp_path / name}").facts
    plain = opened(f"hf:{folder}").facts
    assert key["same"].key == plain.key != key["other"].key
    assert key["other"].sha256 == plain.sha256


def test_registers_are_no_patches(dataset, tmp_path):
    saved(tmp_path, "Dinov2WithRegisters", **SMALL, num_register_tokens=3)
    assert len(opened(f"hf:{tmp_path}").patches(dataset, 3)[0]) == 4


def test_positions_are_interpolated_where_a_model_can(dataset, tmp_path):
    saved(tmp_path, "ViT", **SMALL, intermediate_size=64)
    contender = opened(f"hf:{tmp_path}?size=56", "mean")
    assert len(contender.patches(dataset, 3)[0]) == 16
    assert contender.facts.width == 32


def test_a_model_without_cls_gives_what_it_pools(dataset, tmp_path):
    peer = saved(tmp_path, "ConvNext", hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], image_size=64)
    contender = opened(f"hf:{tmp_path}")
    with torch.no_grad():
        want = peer(pixel_values=torch.from_numpy(contender.view(dataset.block(3), 0)[None])).pooler_output
    np.testing.assert_allclose(contender(dataset, 3), want.numpy(), atol=1e-5)
    assert contender.patches(dataset, 3)[0].shape == (4, 16)


@pytest.mark.parametrize(
    ("said", "size", "std", "interpolation"),
    [
        ({"crop_size": {"height": 70, "width": 70}, "size": {"shortest_edge": 80}}, 70, 0.229, "bicubic"),
        ({"size": 56, "image_std": [0.5, 0.5, 0.5], "resample": 2}, 56, 0.5, "bilinear"),
        ({"crop_size": {"height": 70, "width": 70}, "do_center_crop": False, "size": {"shortest_edge": 84}},
         84, 0.229, "bicubic"),
        ({"do_normalize": False}, 224, 1.0, "bicubic"),
    ],
)  # fmt: skip
def test_the_preprocessor_is_obeyed(dinov2, tmp_path, said, size, std, interpolation):
    shutil.copytree(dinov2[0], tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(said))
    view = opened(f"hf:{tmp_path}/m").view
    assert (view.size, view.std[0], view.interpolation) == (size, std, interpolation)


def test_our_own_export_of_one_channel(tmp_path, dataset):
    """What others read of our grey models answers as our model does, on the same square."""
    torch.manual_seed(0)
    config = ModelConfig(
        width=32, layers=2, heads=2, patch_px=14, position="learned", position_grid=2, scale_token=False,
        registers=2, layer_scale=1.0,
    )  # fmt: skip
    backbone = VisionTransformer(config).eval()
    export_hugging_face(tmp_path / "m", backbone)
    contender = opened(f"hf:{tmp_path}/m?size=28")
    assert contender.view.channels == 1
    image = torch.from_numpy(contender.view(dataset.block(3), 0))  # [1, 28, 28]
    patches_NF = image[0].reshape(2, 14, 2, 14).transpose(1, 2).reshape(4, 196)
    sequences = Sequences.from_grids(torch.tensor([[2, 2]]), torch.tensor([torch.nan]), 14, config.prefix)
    with torch.no_grad():
        want = backbone(patches_NF, sequences)
    np.testing.assert_allclose(contender(dataset, 3), want.cls_VD.numpy(), atol=1e-5)
    np.testing.assert_allclose(contender.patches(dataset, 3)[0], want.patches_ND.numpy(), atol=1e-5)


def test_what_cannot_be_opened(dinov2, tmp_path):
    folder = dinov2[0]

    def spoiled(name, change):
        shutil.copytree(folder, tmp_path / name)
        change(tmp_path / name)
        return f"hf:{tmp_path}/{name}"

    def edit(**values):
        def change(path):
            file = path / "config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | values))

        return change

    def pickled(path):
        (path / "model.safetensors").rename(path / "pytorch_model.bin")

    said = {
        f"hf:{tmp_path}/absent": "must hold a config.json",
        spoiled("code", edit(auto_map={"AutoModel": "evil.Model"})): "got code of its own",
        spoiled(
            "pickle", lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin")
        ): "safetensors, got none",
        spoiled("torn", lambda p: (p / "model.safetensors").write_bytes(b"\x80")): "that transformers",
        spoiled("deeper", edit(num_hidden_layers=3)): "must hold all weights of its config.json",
        spoiled("unknown", edit(model_type="nothing")): "that transformers",
        spoiled("list", lambda p: (p / "config.json").write_text("[]")): "must be a JSON object",
        spoiled("words", lambda p: (p / "config.json").write_text("{")): "must be JSON",
    }
    for spec, sentence in said.items():
        with pytest.raises(ValueError, match=sentence) as caught:
            opened(spec)
        assert "\n" not in str(caught.value), spec
