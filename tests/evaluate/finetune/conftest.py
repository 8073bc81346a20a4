"""Disks and rods, and a tiny backbone that has seen nothing."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from drawn_shapes import Shape, shapes, shapes_dataset

from aqqua.evaluate.features import Embedder
from aqqua.model.config import ModelConfig
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.read import Dataset


@dataclass(frozen=True)
class Made:
    """A dataset of shapes, and what each of its rows shows."""

    dataset: Dataset
    shapes: list[Shape]  # by row

    @property
    def label_N(self) -> np.ndarray:
        """1 is a rod."""
        return np.array([one.label == "rod" for one in self.shapes], np.int64)

    @property
    def rows(self) -> np.ndarray:
        return np.arange(len(self.shapes))


def made(folder, drawn: list[Shape]) -> Made:
    dataset = shapes_dataset(folder, drawn)
    ids = dataset.table(["image_id"])["image_id"].to_pylist()
    return Made(dataset, [drawn[int(name[-3:])] for name in ids])


@pytest.fixture(scope="session")
def disks_and_rods(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """160 images in 10 blocks, half of each."""
    return made(tmp_path_factory.mktemp("shapes") / "dataset", shapes(160))


@pytest.fixture
def embedder() -> Embedder:
    torch.manual_seed(0)
    config = ModelConfig(width=32, layers=2, heads=2, patch_px=8, drop_path=0.0, layer_scale=1.0)
    return Embedder(VisionTransformer(config).eval(), ViewConfig(max_tokens=(64, 16)))
