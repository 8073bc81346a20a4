"""Plan and pixels to patch rows. One contract, several renderers, chosen in one place.

`reference` (PyTorch) is the specification every other renderer is compared against.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from aqqua.plan.pack import Pack

Renderer = Callable[[Pack, list[np.ndarray], int, int], Tensor]
RendererName = Literal["auto", "reference"]


def choose(name: RendererName) -> tuple[str, Renderer]:
    """The renderer that serves, and its name for the first log line.

    Raises:
        ValueError: no such renderer.
    """
    from aqqua.render.reference import render_reference

    if name not in ("auto", "reference"):
        raise ValueError(f"render: backend must be auto or reference, got {name!r}; set data.renderer")
    return "reference", render_reference
