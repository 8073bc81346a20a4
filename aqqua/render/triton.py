"""Plan and pixels to patch rows on a GPU: the pixels travel as stored, the kernel draws the views there.

All images and the plan's numbers go in one copy from page-locked memory, a tenth of the bytes of the rows
that a renderer on the host would send. Everything is done on the current stream; nothing waits for the GPU.
Kernel: aqqua/kernels/render. Specification: reference.py, with which it agrees within 1e-4.
Test: tests/render/test_triton.py. Timing: bench/kernels/render.py.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.render import Scene, reach, render, tiles
from aqqua.plan.pack import Pack
from aqqua.render.parcel import opened, places, send
from aqqua.render.reference import require_dtype

LARGEST_SIGMA = 1000  # source px; csrc/render.cpp
LARGEST_SIDE = (1 << 24) - 1  # px; float32 counts no further
MOST_VALUES = (1 << 31) - 1  # of an image or a view; the kernel counts them in int32


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
        ValueError: the pixels are not those the plan was made for, a number of it is not finite or out of
            range, or the rows cannot have this dtype.
        RuntimeError: Triton cannot serve on the device.
    """
    require_dtype(dtype)
    scene = scene_of(pack, pixels_I, patch_px, channels, first_views, torch.device(device))
    return render(scene, patch_px, channels, dtype, "triton")


def scene_of(
    pack: Pack,
    pixels_I: list[np.ndarray],
    patch_px: int,
    channels: int,
    first_views: int | None,
    device: torch.device,
) -> Scene:
    """What the kernel needs of a pack, checked on the host, on the device by one copy."""
    _require_model(patch_px, channels)
    first = slice(pack.n_views if first_views is None else first_views)
    _require_images(pack, pixels_I)
    _require_views(pack, first, patch_px, channels)
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
        "row_V": pack.patch_offsets_V1[:-1][first],
        "tile_U": tile_U,
        "first_V": first_V,
    }


def _require_model(patch_px: int, channels: int) -> None:
    if not 1 <= patch_px <= 1024:
        raise ValueError(f"render: patch_px must be 1 to 1024, got {patch_px}; set model.patch_px")
    if channels not in (1, 3):
        raise ValueError(f"render: channels must be 1 or 3, got {channels}; set model.channels")


def _require_images(pack: Pack, pixels_I: list[np.ndarray]) -> None:
    """The pixels as planned, and no image that the kernel could not count."""
    sizes = pack.sizes
    if len(pixels_I) != pack.n_images:
        raise ValueError(
            f"render: one image per plan entry must be given, got {len(pixels_I)} of {pack.n_images}; "
            "fetch them all"
        )
    plan = (sizes.height.tolist(), sizes.width.tolist(), sizes.channels.tolist(), sizes.bits.tolist())
    for i, (pixels, height, width, channels, bits) in enumerate(zip(pixels_I, *plan, strict=True)):
        if channels not in (1, 3) or bits not in (8, 16):
            raise ValueError(
                f"render: image {i} must have 1 or 3 channels of 8 or 16 bits, got {channels} of {bits}; "
                "ingest it again"
            )
        if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
            raise ValueError(
                f"render: sides of image {i} must be 1 to 2**24 - 1 px, got {height} x {width}; leave it out"
            )
        shape = (height, width) if channels == 1 else (height, width, 3)
        if pixels.dtype != (np.uint8 if bits == 8 else np.uint16) or pixels.shape != shape:
            raise ValueError(
                f"render: image {i} must be uint{bits} {list(shape)} as planned, got {pixels.dtype} "
                f"{list(pixels.shape)}; plan it anew"
            )
        if pixels.size > MOST_VALUES:
            raise ValueError(
                f"render: image {i} must have fewer than 2**31 values, got {pixels.size}; leave it out"
            )


def _require_views(pack: Pack, first: slice, patch_px: int, channels: int) -> None:
    """Numbers for which no index of the kernel can leave its range."""
    count = len(pack.image_V[first])
    shapes = {
        "grid_V2": (2,), "map_V23": (2, 3), "sigma_V": (), "scale_V": (), "bias_VC": (3,), "noise_V": (),
        "key_V": (),
    }  # fmt: skip
    for name, shape in shapes.items():
        values = getattr(pack, name)[first]
        if values.shape != (count, *shape):
            raise ValueError(
                f"render: {name} must be {[count, *shape]}, got {list(values.shape)}; take it from a Pack"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            v = int(np.argwhere(~np.isfinite(values))[0, 0])
            bad = values[v][~np.isfinite(values[v])].flat[0]
            raise ValueError(f"render: {name} of view {v} must be finite, got {bad}; plan the pack again")
    sigma_V, grid_V2 = pack.sigma_V[first], pack.grid_V2[first].astype(np.int64)
    wrong = np.flatnonzero((sigma_V < 0) | (sigma_V > LARGEST_SIGMA))
    if len(wrong):
        raise ValueError(
            f"render: sigma of view {wrong[0]} must be 0 to {LARGEST_SIGMA} px, got {sigma_V[wrong[0]]}; "
            "lower views.blur_sigma_px or views.max_reduce"
        )
    most = MOST_VALUES // (patch_px * patch_px * channels)
    side_is_wrong = (grid_V2 < 1).any(axis=1) | (grid_V2[:, 0] > most // np.maximum(grid_V2[:, 1], 1))
    wrong = np.flatnonzero(side_is_wrong)
    if len(wrong):
        rows, columns = grid_V2[wrong[0]].tolist()
        raise ValueError(
            f"render: grid of view {wrong[0]} must be 1 patch to 2**31 values, got {rows} x {columns}; lower "
            "views.max_tokens"
        )
