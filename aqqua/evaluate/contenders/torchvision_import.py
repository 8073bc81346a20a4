"""torchvision, which timm and some of transformers want, also beside a CPU build of torch."""

import importlib
import sys
from types import ModuleType

import torch

_KEPT: list[torch.library.Library] = []  # declared schemas live as long as their library


def import_torchvision() -> ModuleType:
    """torchvision, imported.

    The wheel on PyPI is built for CUDA: beside +cpu torch its import fails for want of two detection
    operators, which no image encoder calls. Their schemas are declared, then it imports.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise RuntimeError(
            "models of timm and transformers need the package torchvision, got none; "
            "pip install timm torchvision transformers"
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [known for known in sys.modules if known.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
    return importlib.import_module("torchvision")


def import_peer(package: str) -> ModuleType:
    """timm or transformers, imported.

    Raises:
        RuntimeError: it or torchvision is not installed.
    """
    import_torchvision()
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RuntimeError(
            f"{package} models need the package {package}, got none; pip install {package}"
        ) from error
