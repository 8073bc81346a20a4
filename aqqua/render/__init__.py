"""Plan and pixels to patch rows. One contract, several renderers, chosen in one place.

`reference` (PyTorch) is the specification every other renderer is compared against; `native` (C++,
csrc/render.cpp) serves on every machine; `triton` (aqqua/kernels/render) sends the pixels to a GPU and
renders there.
"""

from functools import partial
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.choice import choose as choose_kernel
from aqqua.plan.pack import Pack

RendererName = Literal["auto", "native", "triton", "reference"]


@runtime_checkable  # for the check of shapes and types in tests (make shapes)
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


def choose(name: RendererName, device: torch.device | str = "cpu") -> tuple[str, Renderer]:
    """The renderer that serves, and its name for the first log line.

    Args:
        name: 'auto' is Triton for a CUDA device where it was measured to be faster, else native.
        device: where the rows are wanted. Only 'triton' makes them there; the others make them on the CPU.

    Raises:
        ValueError: no such renderer.
        RuntimeError: 'triton' is asked for and cannot serve on the device.
    """
    if name == "reference":
        from aqqua.render.reference import render_reference

        return name, render_reference
    if name not in ("auto", "native", "triton"):
        raise ValueError(
            f"render: backend must be auto, native, triton or reference, got {name!r}; set data.renderer"
        )
    device = torch.device(device)
    if name != "native" and choose_kernel("render", device, torch.float32, name) == "triton":
        from aqqua.render.triton import render_triton

        return "triton", partial(render_triton, device=device)
    from aqqua.render.native import render_native

    return "native", render_native
