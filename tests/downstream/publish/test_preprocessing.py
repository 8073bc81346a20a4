"""The told way of an image is the way that is gone: followed by hand, the embeddings are the same."""

import pytest
import torch
from shown_by_hand import by_hand, even_images

from aqqua.downstream.publish.onnx import OneImage
from aqqua.downstream.publish.preprocessing import preprocessing
from aqqua.evaluate.features import Embedder
from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig

SMALL = {"width": 48, "heads": 3, "layers": 2, "patch_px": 4, "position_grid": 5, "ffn": "mlp"}


@pytest.fixture(scope="module", params=[False, True], ids=["levels", "background subtracted"])
def views(request):
    return ViewConfig(max_tokens=(512, 16), min_tokens=(4, 2), subtract_background=request.param)


def test_the_notes_lead_to_the_same_embeddings(views, tmp_path):
    images = even_images(tmp_path / "dataset")
    torch.manual_seed(0)
    mine = VisionTransformer(ModelConfig(**SMALL, position="rope_physical")).eval()
    for parameter in mine.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    told, embedder = preprocessing(mine.config, views), Embedder(mine, views)
    for number in range(images.blocks):
        block, want_ID = images.block(number), embedder(images, number)
        for i in range(len(block)):
            image = torch.from_numpy(by_hand(block.pixels(i), told))[None]
            um_1 = torch.tensor([block.sizes.um_per_px[i]])
            with torch.no_grad():
                got_1D, _, _ = OneImage(mine)(image, um_1)
            torch.testing.assert_close(got_1D[0], torch.from_numpy(want_ID[i]), rtol=1e-4, atol=1e-4)


def test_the_notes_have_the_numbers(views):
    told = preprocessing(ModelConfig(**SMALL), views)
    assert (told["max_patches"], told["min_patches"], told["patch_px"]) == (512, 4, 4)
    assert any("4 to 512 patches of 4 px" in step for step in told["steps"])
    background = any("(background - " in step for step in told["steps"])
    assert background != views.subtract_background
