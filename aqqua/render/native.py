"""Plan and pixels to patch rows on the CPU, by C++ (csrc/render.cpp); equal to the reference within 1e-4.

Test: tests/render/test_native.py. Timing: bench/data/render.py.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua import _core
from aqqua.plan.pack import Pack
from aqqua.render.reference import require_dtype


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
        ValueError: the pixels are not those the plan was made for, a number of it is not finite, or
            the dtype or the instruction set cannot be had.
    """
    require_dtype(dtype)
    first = slice(pack.n_views if first_views is None else first_views)
    image_V, grid_V2, sizes = pack.image_V[first], pack.grid_V2[first], pack.sizes
    rows = int(grid_V2.prod(axis=1).sum())
    patches_NF = torch.empty(rows, patch_px * patch_px * channels, dtype=dtype)
    _core.render(
        pixels_I=[np.ascontiguousarray(pixels) for pixels in pixels_I],
        height_I=np.ascontiguousarray(sizes.height, np.int32),
        width_I=np.ascontiguousarray(sizes.width, np.int32),
        channels_I=np.ascontiguousarray(sizes.channels, np.int8),
        bits_I=np.ascontiguousarray(sizes.bits, np.int8),
        background_I3=np.ascontiguousarray(sizes.background, np.uint16),
        image_V=np.ascontiguousarray(image_V, np.int64),
        grid_V2=np.ascontiguousarray(grid_V2, np.int32),
        map_V23=np.ascontiguousarray(pack.map_V23[first], np.float32),
        sigma_V=np.ascontiguousarray(pack.sigma_V[first], np.float32),
        scale_V=np.ascontiguousarray(pack.scale_V[first], np.float32),
        bias_V3=np.ascontiguousarray(pack.bias_VC[first], np.float32),
        noise_V=np.ascontiguousarray(pack.noise_V[first], np.float32),
        key_V=np.ascontiguousarray(pack.key_V[first] ^ pack.visit_I[image_V], np.uint64),
        patch_px=patch_px,
        channels=channels,
        threads=torch.get_num_threads() if threads is None else threads,
        simd=simd,
        out=_as_numpy(patches_NF),
    )
    return patches_NF


def _as_numpy(values: Tensor) -> np.ndarray:
    """The same memory as an array. NumPy has no bfloat16: its bits are uint16 there."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()
