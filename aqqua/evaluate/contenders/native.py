"""Models of this project: each image at its native resolution, packed.

Test: tests/evaluate/contenders/test_contenders_native.py.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from torch import nn

from aqqua.cost.flops import backbone_flops
from aqqua.cost.tokens import role_of
from aqqua.evaluate.contenders.contender import Facts, arithmetic
from aqqua.evaluate.features import Embedder, fingerprint
from aqqua.evaluate.learned_head import LearnedHead
from aqqua.evaluate.models import path_in
from aqqua.model.config import ModelConfig
from aqqua.plan.views import whole_views
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes


@dataclass(frozen=True)
class Native:
    """An Embedder as a contender."""

    embedder: Embedder
    name: str
    kind: str = "aqqua"  # or untrained
    head: LearnedHead | None = None  # of a classifier; the features are those of its backbone

    @property
    def path(self) -> Path:
        """Where it came from."""
        return path_in(self.name)

    @cached_property
    def facts(self) -> Facts:
        """See Facts."""
        backbone, views = self.embedder.backbone, self.embedder.views
        whole = nn.ModuleDict({"backbone": backbone, "head": self.head.head}) if self.head else backbone
        settings = {
            "pooling": self.embedder.pooling,
            "arithmetic": arithmetic(self.embedder.device),
            **({} if self.embedder.told_times == 1 else {"told_times": str(self.embedder.told_times)}),
            **({} if self.embedder.patch_px is None else {"patch_px": self.embedder.patch_px}),
            "model": backbone.config.for_any_machine().model_dump(mode="json"),
            "views": views.model_dump(mode="json"),
        }
        return Facts(
            kind=self.kind,
            sha256=fingerprint(whole),
            parameters=sum(parameter.numel() for parameter in whole.parameters()),
            input=self._input,
            width=self.embedder.width,
            settings=json.dumps(settings, sort_keys=True),
        )

    @property
    def _config(self) -> ModelConfig:
        """Of the backbone at the side of patches that it is asked at."""
        config, patch_px = self.embedder.backbone.config, self.embedder.patch_px
        return config if patch_px is None else config.model_copy(update={"patch_px": patch_px})

    @property
    def _input(self) -> str:
        config, views, times = self._config, self.embedder.views, self.embedder.told_times
        least, most = views.min_tokens[0], views.max_tokens[0]
        shape = f"native resolution, {least} to {most} patches"
        if views.geometry == "square":
            shape = f"stretched to a square of {most} patches"
        told = "told"
        if math.isnan(times) or not (config.scale_token or config.position in ("gsd", "rope_physical")):
            told = "not told"
        elif times != 1:
            told = f"told wrong, times {times:g}"
        return f"{shape} of {config.patch_px} px, µm/px {told}"

    def __call__(self, dataset: Dataset, number: int) -> Float32[np.ndarray, "I D"]:
        """See Contender."""
        return np.asarray(self.embedder(dataset, number), np.float32)

    def patches(
        self, dataset: Dataset, number: int
    ) -> tuple[Float32[np.ndarray, "N D"], Int64[np.ndarray, " I1"]]:
        """See WithPatches."""
        return self.embedder.patches(dataset, number)

    def flops(self, sizes: Sizes) -> float:
        """See Contender; by aqqua.cost.flops."""
        config, views = self._config, self.embedder.views
        planned = whole_views(sizes, config.patch_px, views.max_tokens[0], views.min_tokens[0], views)
        role = role_of(planned.patches_IS()[:, 0] + config.prefix, per=max(len(sizes), 1))
        return float(backbone_flops(config, role).forward_total)
