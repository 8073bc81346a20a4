"""Hugging Face's model after an export: the same embeddings of pictures, prepared as the notes tell."""

import numpy as np
import pytest
import torch
from shown_by_hand import by_hand, even_images

from aqqua.downstream.publish.preprocessing import preprocessing
from aqqua.evaluate.features import Embedder
from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.model.weights import export_hugging_face
from aqqua.plan.view_config import ViewConfig

SMALL = {"width": 48, "heads": 3, "layers": 2, "patch_px": 4, "position_grid": 5, "ffn": "mlp"}


@pytest.mark.parametrize("subtract", [False, True])
def test_embeddings_of_pictures(tmp_path, transformers, subtract):
    views = ViewConfig(max_tokens=(512, 16), min_tokens=(4, 2), subtract_background=subtract)
    images = even_images(tmp_path / "dataset")
    torch.manual_seed(0)
    mine = VisionTransformer(ModelConfig(**SMALL, position="learned")).eval()
    for parameter in mine.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    export_hugging_face(tmp_path / "model", mine)
    peer = transformers.AutoModel.from_pretrained(tmp_path / "model").eval()
    told, embedder, compared = preprocessing(mine.config, views), Embedder(mine, views), 0
    for number in range(images.blocks):
        block, want_ID = images.block(number), embedder(images, number)
        for i in range(len(block)):
            if np.isfinite(block.sizes.um_per_px[i]):
                continue  # that architecture cannot be told a scale: it speaks for unknown ones
            image = torch.from_numpy(by_hand(block.pixels(i), told))[None, None]
            with torch.no_grad():
                got_D = peer(image).last_hidden_state[0, 0]
            torch.testing.assert_close(got_D, torch.from_numpy(want_ID[i]), rtol=1e-4, atol=1e-4)
            compared += 1
    assert compared > 3
