"""What every renderer asks of its arguments, in the same words: checked once, before a pixel is touched.

Nothing here is converted: a number of another type, a plan for other pixels or a view no index can count is
refused, for a renderer would draw something else than the plan says. What is asked of all views is asked of
whole arrays; only the pixels are looked at one image at a time. Test: tests/render/test_contract.py.

Letters: I images, V views.
"""

import math

import numpy as np
import torch

from aqqua.plan.footprint import LARGEST_SIGMA
from aqqua.plan.pack import Pack
from aqqua.plan.view_config import MOST_SPECKS
from aqqua.plan.views import LARGEST_PATCH

LARGEST_SIDE = (1 << 24) - 1  # px; float32 counts no further
MOST_VALUES = (1 << 31) - 1  # of an image, its blurred plane or a view; all are counted in int32
REACH = 3.0  # the Gaussian ends at this many σ
RIM = 64  # px that a renderer may lay round the blurred image, both sides together
_OF_IMAGES = {
    "height": (np.int32, ()), "width": (np.int32, ()), "channels": (np.int8, ()), "bits": (np.int8, ()),
    "background": (np.uint16, (3,)),
}  # fmt: skip
_OF_VIEWS = {
    "grid_V2": (np.int32, (2,)), "map_V23": (np.float32, (2, 3)), "sigma_V": (np.float32, ()),
    "scale_V": (np.float32, ()), "bias_VC": (np.float32, (3,)), "noise_V": (np.float32, ()),
    "key_V": (np.uint64, ()), "colour_V33": (np.float32, (3, 3)), "fold_VC": (np.float32, (3,)),
}  # fmt: skip
_FINITE = ["speck_VK4", *(name for name, (dtype, _) in _OF_VIEWS.items() if dtype is np.float32)]
_CHANNELS, _BITS, _UNSIGNED = {1, 3}, {8, 16}, {np.dtype(np.uint8), np.dtype(np.uint16)}


def require_renderable(
    pack: Pack,
    pixels_I: list[np.ndarray],
    patch_px: int,
    channels: int,
    first_views: int | None,
    dtype: torch.dtype,
) -> int:
    """How many views are to be rendered, once everything is known to be sound.

    Args: as of the specification, aqqua.render.reference.render_reference.

    Raises:
        ValueError: whatever is not as that says, in one sentence: what must hold, what was got, what to do.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"render: dtype must be torch.float32 or torch.bfloat16, got {dtype}; convert the rows afterwards"
        )
    if not 1 <= patch_px <= LARGEST_PATCH:
        raise ValueError(f"render: patch_px must be 1 to {LARGEST_PATCH}, got {patch_px}; set model.patch_px")
    if channels not in (1, 3):
        raise ValueError(f"render: channels must be 1 or 3, got {channels}; set model.channels")
    _require_arrays(pack)
    count = pack.n_views if first_views is None else first_views
    if not 0 <= count <= pack.n_views:
        raise ValueError(
            f"render: first_views must be 0 to the {pack.n_views} views, got {count}; leave it out for all"
        )
    _require_images(pack, pixels_I)
    _require_views(pack, count, patch_px, channels)
    return count


def _require_arrays(pack: Pack) -> None:
    """Type and shape of every array of the plan that a renderer reads."""
    images, views = pack.n_images, pack.n_images * pack.views_per_image
    expected = [
        *((name, getattr(pack.sizes, name), images, *kind) for name, kind in _OF_IMAGES.items()),
        ("visit_I", pack.visit_I, images, np.uint64, ()),
        *((name, getattr(pack, name), views, *kind) for name, kind in _OF_VIEWS.items()),
    ]
    for name, values, count, dtype, shape in expected:
        if values.dtype != dtype or values.shape != (count, *shape):
            raise ValueError(
                f"render: {name} must be {np.dtype(dtype)} {[count, *shape]}, got {values.dtype} "
                f"{list(values.shape)}; take it from a Pack"
            )
    specks = pack.speck_VK4
    most = min(specks.shape[1], MOST_SPECKS) if specks.ndim == 3 else 0
    if specks.dtype != np.float32 or specks.shape != (views, most, 4):
        raise ValueError(
            f"render: speck_VK4 must be float32 [{views}, 0 to {MOST_SPECKS}, 4], got {specks.dtype} "
            f"{list(specks.shape)}; take it from a Pack"
        )


def _require_images(pack: Pack, pixels_I: list[np.ndarray]) -> None:
    """Images that a renderer knows and can count, and the pixels as planned."""
    sizes = pack.sizes
    if len(pixels_I) != pack.n_images:
        raise ValueError(
            f"render: one image per plan entry must be given, got {len(pixels_I)} of {pack.n_images}; "
            "fetch them all"
        )
    height_I, width_I, channels_I, bits_I = (
        values.tolist() for values in (sizes.height, sizes.width, sizes.channels, sizes.bits)
    )
    sides_I = zip(height_I, width_I, channels_I, strict=True)
    planned = [
        (height, width, 3) if channels == 3 else (height, width) for height, width, channels in sides_I
    ]
    countable = min(height_I + width_I, default=1) >= 1 and max(height_I + width_I, default=1) <= LARGEST_SIDE
    # Whole lists are compared: that all is right is known in a tenth of a microsecond for each image.
    if (
        countable
        and _CHANNELS.issuperset(channels_I)
        and _BITS.issuperset(bits_I)
        and {np.ndarray}.issuperset(map(type, pixels_I))
        and [pixels.shape for pixels in pixels_I] == planned
        and [pixels.itemsize * 8 for pixels in pixels_I] == bits_I
        and _UNSIGNED.issuperset({pixels.dtype for pixels in pixels_I})
        and max((pixels.size for pixels in pixels_I), default=0) <= MOST_VALUES
    ):
        return
    for i, pixels in enumerate(pixels_I):
        _require_image(i, pixels, height_I[i], width_I[i], channels_I[i], bits_I[i])


def _require_image(i: int, pixels: object, height: int, width: int, channels: int, bits: int) -> None:
    """Says the first of the rules that the image breaks."""
    shape = (height, width, 3) if channels == 3 else (height, width)
    if channels not in _CHANNELS or bits not in _BITS:
        what, got = "have 1 or 3 channels of 8 or 16 bits", f"{channels} of {bits}; ingest it again"
    elif not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        raise ValueError(
            f"render: sides of image {i} must be 1 to 2**24 - 1 px, got {height} x {width}; leave it out"
        )
    elif height * width * channels > MOST_VALUES:
        what, got = "have fewer than 2**31 values", f"{height * width * channels}; leave it out"
    elif not isinstance(pixels, np.ndarray):
        what, got = "be a NumPy array", f"{type(pixels)}; decode it first"
    elif pixels.dtype != np.dtype(f"uint{bits}") or pixels.shape != shape:
        what = f"be uint{bits} {list(shape)} as planned"
        got = f"{pixels.dtype} {list(pixels.shape)}; plan it anew"
    else:
        return
    raise ValueError(f"render: image {i} must {what}, got {got}")


def _require_views(pack: Pack, count: int, patch_px: int, channels: int) -> None:
    """Numbers for which no index of a renderer can leave its range."""
    for name in _FINITE:
        values = getattr(pack, name)[:count]
        if not np.isfinite(values).all():
            v = int(np.argwhere(~np.isfinite(values))[0, 0])
            bad = values[v][~np.isfinite(values[v])].flat[0]
            raise ValueError(f"render: {name} of view {v} must be finite, got {bad}; plan the pack again")
    sigma_V = pack.sigma_V[:count]
    if sigma_V.min(initial=0) < 0 or sigma_V.max(initial=0) > LARGEST_SIGMA:
        v = np.flatnonzero((sigma_V < 0) | (sigma_V > LARGEST_SIGMA))[0]
        raise ValueError(
            f"render: sigma of view {v} must be 0 to {LARGEST_SIGMA} px, got {sigma_V[v]}; lower "
            "views.blur_sigma_px or views.max_reduce"
        )
    _require_grids(pack.grid_V2[:count], MOST_VALUES // (patch_px * patch_px * channels))
    _require_planes(pack, count)


def _require_grids(grid_V2: np.ndarray, most: int) -> None:
    """At least one patch, at most `most`; the largest sides of all views tell at once that none has more."""
    if grid_V2.min(initial=1) >= 1 and math.prod(grid_V2.max(axis=0, initial=1).tolist()) <= most:
        return
    rows_V, columns_V = grid_V2.astype(np.int64).T
    for v in np.flatnonzero((grid_V2 < 1).any(axis=1) | (rows_V * columns_V > most))[:1]:
        raise ValueError(
            f"render: grid of view {v} must be 1 patch to 2**31 values, got {rows_V[v]} x {columns_V[v]}; "
            "lower views.max_tokens"
        )


def _require_planes(pack: Pack, count: int) -> None:
    """Every image with its blur can be counted; the largest sides and blur of all tell that at once."""
    height_I, width_I = pack.sizes.height, pack.sizes.width
    sigma_V = pack.sigma_V[:count].astype(np.float64)
    rim = 2 * math.ceil(REACH * sigma_V.max(initial=0)) + RIM
    if (int(height_I.max(initial=0)) + rim) * (int(width_I.max(initial=0)) + rim) <= MOST_VALUES:
        return
    image_V = pack.image_V[:count]
    rim_V = 2 * np.ceil(REACH * sigma_V).astype(np.int64) + RIM
    for i in image_V[(height_I[image_V] + rim_V) * (width_I[image_V] + rim_V) > MOST_VALUES][:1]:
        raise ValueError(
            f"render: image {i} and its blur must have fewer than 2**31 pixels, got {height_I[i]} x "
            f"{width_I[i]}; leave it out or reduce it"
        )
