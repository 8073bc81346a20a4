"""Models of others, which see every image as a square of one size.

Letters: I images, B images of a batch, N patches of an image, D width.
Test: tests/evaluate/contenders/test_timm_model.py, test_hugging_face.py.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from aqqua.evaluate.contenders.contender import Facts, arithmetic
from aqqua.evaluate.contenders.square_input import SquareInput
from aqqua.evaluate.features import Pooling, fingerprint
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

BATCH = 32


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model says of a batch."""

    whole_BD: Float[Tensor, "B D"]  # what it would hand to its own classifier: CLS, or its own pooling
    patches_BND: Float[Tensor, "B N D"]


@dataclass(frozen=True, eq=False)
class SquareModel:
    """A network with what it is shown and how its answer is read."""

    name: str
    kind: str
    network: nn.Module
    view: SquareInput
    look: Callable[[Tensor], Seen]  # normalised images [B, C, S, S] to what is seen
    pooling: Pooling
    device: torch.device
    config: Mapping[str, Any]  # what decides the features and no weight shows: the architecture; JSON values

    @cached_property
    def width(self) -> int:
        """D."""
        seen = self._see(torch.zeros(1, self.view.channels, self.view.size, self.view.size))
        return int(self._pool(seen).shape[1])

    @cached_property
    def facts(self) -> Facts:
        """See Facts."""
        return Facts(
            kind=self.kind,
            sha256=fingerprint(self.network),
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            input=self.view.words,
            width=self.width,
            settings=json.dumps(
                {
                    "pooling": self.pooling,
                    "arithmetic": arithmetic(self.device),
                    "network": type(self.network).__name__,
                    "config": self.config,
                    **asdict(self.view),
                },
                sort_keys=True,
            ),
        )

    def __call__(self, dataset: Dataset, number: int) -> Float32[np.ndarray, "I D"]:
        """See Contender. Pooling cls is the model's own: its CLS, or what it pools where it has none."""
        found = [self._pool(seen).cpu().numpy() for seen in self._batches(dataset, number)]
        return np.concatenate([np.zeros((0, self.width), np.float32), *found])

    def patches(
        self, dataset: Dataset, number: int
    ) -> tuple[Float32[np.ndarray, "N D"], Int64[np.ndarray, " I1"]]:
        """See WithPatches; patches that show padding are among them."""
        found = [seen.patches_BND.float().cpu().numpy() for seen in self._batches(dataset, number)]
        counts = [np.full(len(tokens), tokens.shape[1], np.int64) for tokens in found]
        offsets = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
        rows = [tokens.reshape(-1, tokens.shape[2]) for tokens in found]
        return np.concatenate(rows) if rows else np.zeros((0, self.width), np.float32), offsets

    def flops(self, sizes: Sizes) -> float:  # noqa: ARG002 - every image has the same size here
        """See Contender; counted by torch, attention as plain products."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        image = torch.zeros(1, self.view.channels, self.view.size, self.view.size)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self._see(image)
        return float(counter.get_total_flops())

    def _batches(self, dataset: Dataset, number: int) -> Iterator[Seen]:
        block = dataset.block(number)
        for start in range(0, len(block), BATCH):
            rows = range(start, min(start + BATCH, len(block)))
            yield self._see(torch.from_numpy(np.stack([self.view(block, i) for i in rows])))

    @torch.no_grad()
    def _see(self, images: Tensor) -> Seen:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.look(images.to(self.device))

    def _pool(self, seen: Seen) -> Tensor:
        whole, mean = seen.whole_BD.float(), seen.patches_BND.float().mean(dim=1)
        return {"cls": whole, "mean": mean, "cls+mean": torch.cat([whole, mean], dim=1)}[self.pooling]
