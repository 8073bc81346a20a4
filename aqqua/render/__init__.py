"""Plan and pixels to patch rows. One contract, several renderers, chosen in one place.

`reference` (PyTorch) is the specification every other renderer is compared against; `native` (C++,
csrc/render.cpp) serves on every machine.
"""

from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.plan.pack import Pack

RendererName = Literal["auto", "native", "reference"]


class Renderer(Protocol):
    """What every renderer can do; render_reference says what each argument means."""

    def __call__(
        self,
        pack: Pack,
        pixels_I: list[np.ndarray],
        patch_px: int,
        channels: int,
        first_views: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "N F"]: ...


def choose(name: RendererName) -> tuple[str, Renderer]:
    """The renderer that serves, and its name for the first log line.

    Raises:
        ValueError: no such renderer.
    """
    if name == "reference":
        from aqqua.render.reference import render_reference

        return name, render_reference
    if name in ("auto", "native"):
        from aqqua.render.native import render_native

        return "native", render_native
    raise ValueError(f"render: backend must be auto, native or reference, got {name!r}; set data.renderer")
