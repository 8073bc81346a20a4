"""A small dataset and an untrained backbone."""

import pytest
import torch
from drawn_images import blob, make_dataset

from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.store.read import Dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """49 images in 4 blocks, the last of a single image."""
    return make_dataset(tmp_path_factory.mktemp("features") / "dataset", [blob(i) for i in range(49)])


@pytest.fixture(scope="module")
def backbone() -> VisionTransformer:
    torch.manual_seed(0)
    config = ModelConfig(width=32, layers=2, heads=2, patch_px=8, drop_path=0.0, layer_scale=1.0)
    return VisionTransformer(config).eval()
