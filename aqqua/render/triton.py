"""Plan and pixels to patch rows on a GPU: the pixels travel as stored, the kernel draws the views there.

All images and the plan's numbers go in one copy from page-locked memory, a tenth of the bytes of the rows
that a renderer on the host would send. Everything is done on the current stream; nothing waits for the GPU.
Kernel: aqqua/kernels/render. Specification: reference.py, with which it agrees within 1e-5.
Test: tests/render/test_triton.py. Timing: bench/kernels/render.py.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.render import Scene, reach, render, tiles
from aqqua.plan.pack import Pack
from aqqua.render.contract import require_renderable
from aqqua.render.parcel import opened, places, send


def render_triton(
    pack: Pack,
    pixels_I: list[np.ndarray],
    patch_px: int,
    channels: int,
    first_views: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cuda",
) -> Float[Tensor, "N F"]:
    """Patch rows of all views in packed order, on the device; they may still be in the making.

    Args:
        pack, pixels_I, patch_px, channels, first_views, dtype: as of the specification, render_reference.
        device: a CUDA device; in Triton's interpreter also the CPU.

    Raises:
        ValueError: as of the specification.
        RuntimeError: Triton cannot serve on the device.
    """
    count = require_renderable(pack, pixels_I, patch_px, channels, first_views, dtype)
    scene = scene_of(pack, pixels_I, patch_px, channels, count, torch.device(device))
    return render(scene, patch_px, channels, dtype, "triton")


def scene_of(
    pack: Pack,
    pixels_I: list[np.ndarray],
    patch_px: int,
    channels: int,
    first_views: int | None,
    device: torch.device,
) -> Scene:
    """What the kernel needs of a pack's first views, known to be sound, on the device by one copy."""
    first = slice(first_views)
    tables = {
        "offset_I": np.zeros(pack.n_images, np.int64),
        **_of_images(pack),
        **_of_views(pack, first, patch_px, channels),
    }
    starts = places([part.nbytes for part in (*tables.values(), *pixels_I)])
    tables["offset_I"] = starts[len(tables) : -1]
    parcel = send([*tables.values(), *pixels_I], device)
    tensors = {
        name: opened(parcel, start, table)
        for (name, table), start in zip(tables.items(), starts.tolist(), strict=False)
    }
    return Scene(pixels_B=parcel, **tensors, rows=int(pack.patches_V[first].sum()))


def _of_images(pack: Pack) -> dict[str, np.ndarray]:
    sizes = pack.sizes
    return {
        "height_I": sizes.height.astype(np.int32),
        "width_I": sizes.width.astype(np.int32),
        "channels_I": sizes.channels.astype(np.int32),
        "bits_I": sizes.bits.astype(np.int32),
        "background_I3": sizes.background.astype(np.float32),
    }


def _of_views(pack: Pack, first: slice, patch_px: int, channels: int) -> dict[str, np.ndarray]:
    image_V, grid_V2 = pack.image_V[first], pack.grid_V2[first]
    reach_V = reach(pack.sigma_V[first])
    tile_U, first_V = tiles(grid_V2, reach_V, patch_px, channels)
    key_V = pack.key_V[first] ^ pack.visit_I[image_V]
    colour_V33 = pack.colour_V33[first]
    return {
        "image_V": image_V.astype(np.int32),
        "grid_V2": grid_V2.astype(np.int32),
        "map_V23": pack.map_V23[first].astype(np.float32),
        "sigma_V": pack.sigma_V[first].astype(np.float32),
        "reach_V": reach_V,
        "scale_V": pack.scale_V[first].astype(np.float32),
        "bias_V3": pack.bias_VC[first].astype(np.float32),
        "noise_V": pack.noise_V[first].astype(np.float32),
        "key_V": key_V.astype(np.uint64).view(np.int64),
        "speck_VK4": pack.speck_VK4[first],
        "colour_Z33": colour_V33 if channels == 3 else colour_V33[:0],  # a model of one channel sees none
        "coloured_V": (colour_V33 != np.eye(3, dtype=np.float32)).any(axis=(1, 2)).astype(np.int32),
        "fold_V3": pack.fold_VC[first],
        "row_V": pack.patch_offsets_V1[:-1][first],
        "tile_U": tile_U,
        "first_V": first_V,
    }
