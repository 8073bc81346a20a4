"""Peers to compare with: timm and transformers, both of which want torchvision."""

import importlib
import sys
from types import ModuleType

import pytest
import torch

_KEPT: list[torch.library.Library] = []  # declared schemas live as long as their library


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision, also beside a CPU build of torch.

    The wheel on PyPI is built for CUDA: beside +cpu torch its import fails for want of two detection
    operators, which no vision transformer calls. Their schemas are declared, then it imports.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [known for known in sys.modules if known.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    module = importlib.import_module("torchvision")
    _KEPT.append(library)
    return module


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:  # noqa: ARG001 - must be importable before timm is
    return importlib.import_module("timm")


@pytest.fixture(scope="session")
def transformers(torchvision: ModuleType) -> ModuleType:  # noqa: ARG001 - as for timm
    return importlib.import_module("transformers")
