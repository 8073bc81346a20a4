"""Plan and pages that lie on the device already to patch rows: no pixel crosses the bus again.

A decoder that works on the GPU leaves each page where it likes. The kernel takes one address and an offset
for each image, so the offsets here are the distances of the pages from the plan's own tensors: nothing is
copied or put together. Otherwise as aqqua/render/triton.py. Letters: I images, N patch rows, F = P·P·C.
Test: tests/render/test_device_pages.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.render import Scene, render
from aqqua.plan.pack import Pack
from aqqua.render.contract import require_renderable
from aqqua.render.parcel import upload
from aqqua.render.triton import scene_of

_LEVEL: dict[torch.dtype, np.ndarray] = {
    torch.uint8: np.zeros(1, np.uint8),
    torch.uint16: np.zeros(1, np.uint16),
}


def render_device_pages(
    pack: Pack,
    pages_I: Sequence[Tensor],
    patch_px: int,
    channels: int,
    first_views: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "N F"]:
    """Patch rows of all views in packed order, on the pages' device; they may still be in the making.

    The pages must stay until they are made: whoever frees memory in order of the current stream, as PyTorch
    and DALI do, may drop them at once.

    Args:
        pack, patch_px, channels, first_views, dtype: as of the specification, render_reference.
        pages_I: of each image, contiguous (H, W) or (H, W, 3), torch.uint8 or torch.uint16, all on one
            CUDA device; in Triton's interpreter also the CPU.

    Raises:
        ValueError: as of the specification, or a page is not contiguous or on another device.
        RuntimeError: Triton cannot serve on the device.
    """
    device = pages_I[0].device if pages_I else torch.device("cuda")
    for i, page in enumerate(pages_I):
        if page.device != device or not page.is_contiguous() or page.dtype not in _LEVEL:
            raise ValueError(
                f"render: page {i} must be contiguous uint8 or uint16 on {device}, got {page.dtype} with "
                f"strides {page.stride()} on {page.device}; decode all for one device"
            )
    # Arrays of the pages' types and shapes that take no memory: the contract looks at nothing else of them.
    likenesses = [np.broadcast_to(_LEVEL[page.dtype], tuple(page.shape)) for page in pages_I]
    count = require_renderable(pack, likenesses, patch_px, channels, first_views, dtype)
    scene = _scene(pack, pages_I, patch_px, channels, count, device)
    return render(scene, patch_px, channels, dtype, "triton")


def _scene(
    pack: Pack, pages_I: Sequence[Tensor], patch_px: int, channels: int, count: int, device: torch.device
) -> Scene:
    """The scene of the plan alone, its images elsewhere."""
    nothing = np.empty(0, np.uint8)
    scene = scene_of(pack, [nothing] * len(pages_I), patch_px, channels, count, device)
    base = scene.pixels_B.data_ptr()
    offset_I = np.array([page.data_ptr() - base for page in pages_I], np.int64)
    return replace(scene, offset_I=upload({"offset_I": offset_I}, device)["offset_I"])
