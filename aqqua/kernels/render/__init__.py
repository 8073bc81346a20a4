"""Views of images to patch rows, on the device: one launch for all views of a pack.

Letter key: N patch rows, F = P·P·C values of a row (pixel row, pixel column, channel), P patch side,
C channels of the model. `Scene` says what is drawn; aqqua/render/triton.py makes one of a pack.
Specification: reference.py. Test: tests/kernels/test_render.py. Timing: bench/kernels/render.py.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.choice import BACKENDS, choose
from aqqua.kernels.render.reference import render_reference
from aqqua.kernels.render.scene import Scene, reach, tiles

__all__ = ["BACKENDS", "Scene", "reach", "render", "tiles"]


def render(
    scene: Scene,
    patch_px: int,
    channels: int,
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
) -> Float[Tensor, "N F"]:
    """Patch rows of all views in packed order, on the scene's device.

    Args:
        scene: images and views; its numbers are trusted, so they must be as it says.
        patch_px: P; the one that scene.tile_U was made for.
        channels: C, 1 or 3; likewise. Colour becomes luma for 1; grey is repeated for 3.
        dtype: torch.float32 or torch.bfloat16, the former rounded to nearest, ties to even.
        backend: 'auto', or a name of BACKENDS to force it.

    Raises:
        ValueError: channels or dtype is neither of the two, the pixels' bytes are not even in number, or an
            unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    if channels not in (1, 3) or dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"render: rows must have 1 or 3 channels of float32 or bfloat16, got {channels} of {dtype}; set "
            "model.channels, convert afterwards"
        )
    if len(scene.pixels_B) % 2 or not scene.pixels_B.is_contiguous():
        raise ValueError(
            f"render: pixels must be contiguous and an even number of bytes, got {len(scene.pixels_B)}, "
            f"strides {scene.pixels_B.stride()}; pad them"
        )
    if choose("render", scene.pixels_B.device, dtype, backend) == "reference":
        return render_reference(scene, patch_px, channels, dtype)
    from aqqua.kernels.render import op

    return op.render(scene, patch_px, channels, dtype)
