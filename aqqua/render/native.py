"""Plan and pixels to patch rows on the CPU, by C++ (csrc/render.cpp); equal to the reference within 1e-5.

Test: tests/render/test_native.py. Timing: bench/data/render.py.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua import _core
from aqqua.plan.pack import Pack
from aqqua.render.contract import require_renderable


def render_native(
    pack: Pack,
    pixels_I: list[np.ndarray],
    patch_px: int,
    channels: int,
    first_views: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    threads: int | None = None,
    simd: str = "auto",
) -> Float[Tensor, "N F"]:
    """Patch rows of all views in packed order, on the CPU. The GIL is free meanwhile.

    Args:
        pack, pixels_I, patch_px, channels, first_views, dtype: as of the specification, render_reference.
        threads: at most so many work, PyTorch's number by default; the result does not depend on them.
        simd: instruction set, one of _core.render_simd(); "auto" is the fastest. The result does not depend
            on it either.

    Raises:
        ValueError: as of the specification, or the instruction set or so many threads cannot be had.
    """
    count = require_renderable(pack, pixels_I, patch_px, channels, first_views, dtype)
    rows = int(pack.grid_V2[:count].prod(axis=1, dtype=np.int64).sum())
    patches_NF = torch.empty(rows, patch_px * patch_px * channels, dtype=dtype)
    # Laid out as C++ wants them; never converted, which would hide a number that does not fit.
    plan = {**_of_images(pack), **_of_views(pack, slice(count))}
    _core.render(
        pixels_I=[np.ascontiguousarray(pixels) for pixels in pixels_I],
        **{name: np.ascontiguousarray(values) for name, values in plan.items()},
        patch_px=patch_px,
        channels=channels,
        threads=torch.get_num_threads() if threads is None else threads,
        simd=simd,
        out=_as_numpy(patches_NF),
    )
    return patches_NF


def _of_images(pack: Pack) -> dict[str, np.ndarray]:
    sizes = pack.sizes
    return {
        "height_I": sizes.height,
        "width_I": sizes.width,
        "channels_I": sizes.channels,
        "bits_I": sizes.bits,
        "background_I3": sizes.background,
    }


def _of_views(pack: Pack, first: slice) -> dict[str, np.ndarray]:
    image_V = pack.image_V[first]
    return {
        "image_V": image_V,
        "grid_V2": pack.grid_V2[first],
        "map_V23": pack.map_V23[first],
        "sigma_V": pack.sigma_V[first],
        "scale_V": pack.scale_V[first],
        "bias_V3": pack.bias_VC[first],
        "noise_V": pack.noise_V[first],
        "key_V": pack.key_V[first] ^ pack.visit_I[image_V],
        "speck_VK4": pack.speck_VK4[first],
        "colour_V33": pack.colour_V33[first],
        "fold_V3": pack.fold_VC[first],
    }


def _as_numpy(values: Tensor) -> np.ndarray:
    """The same memory as an array. NumPy has no bfloat16: its bits are uint16 there."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()
