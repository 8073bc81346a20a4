"""A small real dataset and a model that takes a step in a few hundredths of a second."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.write import ingest
from aqqua.train.settings import PretrainConfig


@dataclass(frozen=True)
class Blob:
    """A dark ellipse on a bright ground, of a size and shape drawn from its number."""

    number: int

    def load(self, _tree: Tree) -> np.ndarray:
        draw = np.random.default_rng(self.number)
        height, width = (int(side) for side in np.exp(draw.uniform(np.log(5), np.log(90), 2)))
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        inside = (y / draw.uniform(0.3, 0.9)) ** 2 + (x / draw.uniform(0.3, 0.9)) ** 2 < 1
        grey = np.where(inside, draw.uniform(40, 150), 220) + draw.normal(0, 6, (height, width))
        return grey.clip(0, 255).astype(np.uint8)


def write_dataset(folder: Path, images: int, first: int = 0) -> Path:
    """Blobs of two instruments, one with a scale and one without, in blocks of 64."""
    records = (
        Record(
            object_id=f"blob{i}", pixels=Blob(i), instrument=("IFCB", "ISIIS")[i % 2], sample="s",
            um_per_px=None if i % 2 else 0.3, group=f"g{i // 10}", source=f"blob{i}.png",
        )
        for i in range(first, first + images)
    )  # fmt: skip
    ingest([(Tree(root=Path("blobs"), label="blobs"), records)], folder, block_rows=64, workers=1)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "blobs", 300)


@pytest.fixture(scope="session")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "others", 70, first=1000)


def tiny_config(run: Path, dataset: Path, **rooms: dict[str, Any]) -> PretrainConfig:
    """A run of about 15 steps of 2 packs. `rooms` change single settings: train={"max_steps": 3}."""
    settings: dict[str, dict[str, Any]] = {
        "data": {"path": dataset, "lanes": 2, "window_blocks": 1, "pack_tokens": 1024, "holdout": 0.1},
        "views": {"locals": 4, "max_tokens": (64, 16)},
        "model": {
            "width": 32, "layers": 2, "heads": 2, "patch_px": 8, "registers": 1, "layer_scale": 0.1,
            "attention": "reference",
        },
        "objective": {"head": {"prototypes": 64, "hidden": 32, "bottleneck": 16}},
        "optim": {"lr": 5e-3, "lr_rule": "none"},
        "train": {
            "images": 450, "log_every": 1, "device": "cpu", "threads": 1, "deterministic": True,
            "tensorboard": False,
        },
    }  # fmt: skip
    for room, changes in rooms.items():
        settings[room] = {**settings.get(room, {}), **changes}
    return PretrainConfig.model_validate({"run": run, "seed": 3, **settings})


@pytest.fixture(scope="session")
def make_config(dataset: Path) -> Callable[..., PretrainConfig]:
    def make(run: Path, **rooms: dict[str, Any]) -> PretrainConfig:
        return tiny_config(run, dataset, **rooms)

    return make


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A run sets PyTorch's threads for its process; the next test gets back what was there."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
