"""What every contender is: asked for a block of images, it answers with a row of features for each.

Letters: I images of a block, D width, N patches. Test: tests/evaluate/contenders/test_contender.py.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64

from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes


@dataclass(frozen=True)
class Facts:
    """Of a contender, for a leaderboard and for naming its features."""

    kind: str  # aqqua, untrained, timm, hugging-face, pixels, handcrafted
    sha256: str | None  # of the weights; None where there are none
    parameters: int  # trained numbers, 0 where there are none
    input: str  # how an image is shown to it, in words
    width: int  # D
    settings: str  # all else that decides the features: pooling, configuration, arithmetic, version

    @property
    def key(self) -> str:
        """SHA-256 of all of these: two contenders of one key have the same features of any image."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def arithmetic(device: torch.device) -> str:
    """In what a network is run there: autocast to bfloat16 on CUDA; "float32 on cpu"."""
    return f"{'bfloat16' if device.type == 'cuda' else 'float32'} on {device.type}"


@runtime_checkable
class Contender(Protocol):
    """Turns blocks of a dataset into features. Whoever it is, all are judged by the same probes."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        ...

    @property
    def facts(self) -> Facts: ...

    def __call__(self, dataset: Dataset, number: int) -> Float32[np.ndarray, "I D"]:
        """Features of all images of a block, in row order."""
        ...

    def flops(self, sizes: Sizes) -> float:
        """Of an image, the mean over images of these sizes: matrix products, 2·m·k·n of m×k by k×n.

        0 of what has no matrix product.
        """
        ...


@runtime_checkable
class WithPatches(Contender, Protocol):
    """A contender that also says something of each patch of an image."""

    def patches(
        self, dataset: Dataset, number: int
    ) -> tuple[Float32[np.ndarray, "N D"], Int64[np.ndarray, " I1"]]:
        """Patch tokens of all images of a block end to end, and where each image starts; the last is N."""
        ...
