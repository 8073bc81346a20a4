"""A dataset of shapes, a tiny classifier that has learnt nothing of them, and tables made up by hand."""

import sys
from pathlib import Path

import pytest
import torch
from drawn_shapes import shapes, shapes_dataset
from made_predictions import CLASSES

from aqqua.downstream.classifier import Classifier
from aqqua.evaluate.features import Embedder
from aqqua.evaluate.finetune.heads import SpeciesHead
from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.read import Dataset

sys.path.append(str(Path(__file__).parent / "publish"))  # made_published


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a dataset of 120 disks and rods."""
    folder = tmp_path_factory.mktemp("shapes") / "dataset"
    shapes_dataset(folder, shapes(120))
    return folder


@pytest.fixture
def shapes_of(shapes_folder) -> Dataset:
    return Dataset.open(shapes_folder)


@pytest.fixture
def classifier() -> Classifier:
    """Of CLASSES, with weights that were drawn."""
    torch.manual_seed(0)
    config = ModelConfig(width=32, layers=2, heads=2, patch_px=8, drop_path=0.0, layer_scale=1.0)
    backbone = VisionTransformer(config).eval()
    embedder = Embedder(backbone, ViewConfig(max_tokens=(64, 16)), "cls+mean")
    head = SpeciesHead(64, 3).eval()
    torch.nn.init.normal_(head.linear.weight, std=0.3)
    return Classifier(
        "made", embedder, head, CLASSES, (), 1.5, (0.1, 0.2, 0.0), {"command": "make", "n": [1]}
    )
