"""Plan and pixels to patch rows. One contract, several renderers, chosen in one place.

`reference` (PyTorch) is the specification every other renderer is compared against; `native` (C++,
csrc/render.cpp) serves on every machine.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from aqqua.plan.pack import Pack

Renderer = Callable[[Pack, list[np.ndarray], int, int], Tensor]
RendererName = Literal["auto", "native", "reference"]


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
