"""ONNX: the same embeddings as the native model's, for images of many sizes."""

import json

import pytest
import torch

from aqqua.downstream.publish.onnx import KEY, OneImage, export_onnx, resized
from aqqua.model.config import ModelConfig
from aqqua.model.position import LearnedGrid
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig

SMALL = {"width": 48, "heads": 3, "layers": 2, "patch_px": 4, "position_grid": 5, "ffn": "mlp"}
GRIDS = [(1, 1), (1, 9), (5, 5), (3, 5), (12, 2), (7, 8)]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def loud(**changes):
    """Random everywhere, so that no tensor can be left out or swapped unseen."""
    torch.manual_seed(0)
    model = VisionTransformer(ModelConfig(**{**SMALL, **changes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def native(model, image, um):
    side, grid = (
        model.config.patch_px,
        [image.shape[1] // model.config.patch_px, image.shape[2] // model.config.patch_px],
    )
    tiles = image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 3, 4, 0)
    sequences = Sequences.from_grids(torch.tensor([grid]), torch.tensor([um]), side, model.config.prefix)
    with torch.no_grad():
        found = model(tiles.reshape(-1, model.config.patch_values), sequences)
    return found.cls_VD, found.registers_VRD[0], found.patches_ND


@pytest.mark.parametrize("offset", [False, True])
def test_a_table_at_any_grid(offset):
    torch.manual_seed(1)
    position = LearnedGrid(5, 8, offset)
    position.init_weights()
    for grid in [*GRIDS, (40, 3)]:
        want = position.resized(torch.tensor([grid]))
        torch.testing.assert_close(resized(position, *grid), want, rtol=1e-5, atol=1e-6)


POSITIONS = ["learned", "factorised", "gsd", "rope", "rope_physical", "none"]


@pytest.mark.parametrize("position", POSITIONS)
def test_the_plain_path_is_the_native_one(position):
    model = loud(position=position)
    for rows, columns in GRIDS:
        image = torch.randn(1, 4 * rows, 4 * columns)
        for um in (0.7, float("nan")):
            with torch.no_grad():
                got = OneImage(model)(image, torch.tensor([um]))
            for one, other in zip(got, native(model, image, um), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "learned", "layers": 1},
        {"position": "rope_physical", "ffn": "swiglu", "channels": 3, "registers": 0, "layers": 1},
        {"position": "factorised", "scale_token": False, "layers": 1},
        {"position": "learned", "position_interpolation": "offset", "layers": 1},
    ],
    ids=lambda changes: changes["position"],
)
def test_a_runtime_gives_the_same_embeddings(tmp_path, changes):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = loud(**changes)
    export_onnx(tmp_path / "model.onnx", model, ViewConfig())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for rows, columns in GRIDS:
        image = torch.randn(model.config.channels, 4 * rows, 4 * columns)
        for um in (0.7, float("nan")):
            got = session.run(None, {"image": image.numpy(), "um_per_px": torch.tensor([um]).numpy()})
            for one, other in zip(got, native(model, image, um), strict=True):
                torch.testing.assert_close(torch.from_numpy(one), other, **CLOSE)
    notes = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    assert notes["preprocessing"]["patch_px"] == 4
    assert ModelConfig.model_validate(notes["model"]) == model.config


def test_refusals(tmp_path):
    model = loud(layers=1)
    with pytest.raises(ValueError, match=r"must be named .onnx"):
        export_onnx(tmp_path / "model.bin", model, ViewConfig())
