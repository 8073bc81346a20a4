"""Plan and pixels to patch rows: the specification, in plain PyTorch, one view at a time.

A view is: the image, laid on an endless plane of its own background; blurred by the view's one
Gaussian (defocus and antialiasing together); sampled bilinearly where the view's map says; covered by its
specks; its colours mixed; scale · v + bias; folded; noise on top; cut into patches. What each number does:
aqqua.plan.views.Views. Every other renderer must agree with this one.

Letters: N patch rows of the pack, K specks of a view, F = P·P·C values of a row (pixel row, pixel column,
channel).
"""

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor

from aqqua.plan.colour import LUMA
from aqqua.plan.murmur import finaliser
from aqqua.plan.pack import Pack
from aqqua.plan.views import NO_FOLD
from aqqua.render.contract import REACH, require_renderable

SMALLEST_SIGMA = 0.2  # source px; below it the blur would not move a grey level


def render_reference(
    pack: Pack,
    pixels_I: list[np.ndarray],
    patch_px: int,
    channels: int,
    first_views: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "N F"]:
    """Patch rows of all views in packed order, on the CPU.

    Args:
        pack: the plan.
        pixels_I: pixels of each image of the pack as stored, (H, W) or (H, W, 3), uint8 or uint16.
        patch_px: side P of a patch, 1 to 1024.
        channels: of the model, 1 or 3. Colour becomes luma for 1; grey is repeated for 3.
        first_views: render only so many views (the globals come first), 0 to all.
        dtype: of the rows, torch.float32 or torch.bfloat16. The latter is the former rounded to nearest,
            ties to even: what a model under autocast would do to them first, in half the bytes.

    Raises:
        ValueError: the pixels are not those the plan was made for, an array of the plan has another type or
            shape, a number of it is not finite or out of range, or the rows cannot have this dtype
            (aqqua.render.contract).
    """
    n_views = require_renderable(pack, pixels_I, patch_px, channels, first_views, dtype)
    planes = [_plane(p, channels) for p in pixels_I]
    image_V = pack.image_V
    nothing = torch.empty(0, patch_px * patch_px * channels)
    rows = [_view(planes[image_V[v]], pack, v, int(image_V[v]), patch_px) for v in range(n_views)]
    return torch.cat([nothing, *rows]).to(dtype)


def _plane(pixels: np.ndarray, channels: int) -> Tensor:
    """Pixels as [C, H, W] in [0, 1]."""
    full = 65535.0 if pixels.dtype == np.uint16 else 255.0
    image = torch.from_numpy(pixels.astype(np.float32) / np.float32(full))
    image = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
    return _to_channels(image, channels)


def _to_channels(image_CHW: Tensor, channels: int) -> Tensor:
    if len(image_CHW) == channels:
        return image_CHW
    if channels == 1:
        return (image_CHW * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    return image_CHW.expand(3, -1, -1)


def _view(image_CHW: Tensor, pack: Pack, v: int, i: int, patch_px: int) -> Tensor:
    full = 65535.0 if pack.sizes.bits[i] == 16 else 255.0
    background = torch.from_numpy(pack.sizes.background[i].astype(np.float32) / np.float32(full))
    bias, fold = torch.from_numpy(pack.bias_VC[v]), torch.from_numpy(pack.fold_VC[v])
    folds = bool((fold < NO_FOLD).any())
    if len(image_CHW) == 1:
        background, bias, fold = (
            (values * torch.tensor(LUMA)).sum(0, keepdim=True) for values in (background, bias, fold)
        )
    height, width = (int(side) * patch_px for side in pack.grid_V2[v])
    blurred, pad = prefilter(image_CHW, background, float(pack.sigma_V[v]))
    values = sample(blurred, background, pad, torch.from_numpy(pack.map_V23[v]), height, width)  # [C, h, w]
    values = cover(values, torch.from_numpy(pack.speck_VK4[v]))
    if len(values) == 3:
        values = torch.einsum("ck,khw->chw", torch.from_numpy(pack.colour_V33[v]), values)
    values = values * float(pack.scale_V[v]) + bias[:, None, None]
    if folds:
        values = torch.minimum(values, fold[:, None, None] - values)
    if pack.noise_V[v]:
        values = values + float(pack.noise_V[v]) * noise(int(pack.key_V[v] ^ pack.visit_I[i]), height, width)
    return patchify(values, patch_px)


def prefilter(image_CHW: Tensor, background_C: Tensor, sigma: float) -> tuple[Tensor, int]:
    """The image on its background, blurred; and by how many pixels it grew on each side."""
    if sigma < SMALLEST_SIGMA:
        return image_CHW, 0
    reach = math.ceil(REACH * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / sigma) ** 2)
    taps = taps / taps.sum()
    # Blurring the difference to the background lets zero padding stand for the endless plane.
    difference = (image_CHW - background_C[:, None, None])[:, None]
    difference = nnf.conv2d(difference, taps[None, None, None, :], padding=(0, 2 * reach))
    difference = nnf.conv2d(difference, taps[None, None, :, None], padding=(2 * reach, 0))
    return difference[:, 0] + background_C[:, None, None], reach


def sample(
    image_CHW: Tensor, background_C: Tensor, pad: int, map_23: Tensor, height: int, width: int
) -> Float[Tensor, "C h w"]:
    """Bilinear values at the mapped points; the background beyond the image.

    `pad` is how many pixels the image grew on each side, so that source point (x, y) is its pixel
    (x + pad − ½, y + pad − ½).
    """
    rows = torch.arange(height, dtype=torch.float32)[:, None] + 0.5
    columns = torch.arange(width, dtype=torch.float32)[None, :] + 0.5
    x = map_23[0, 0] * columns + map_23[0, 1] * rows + (map_23[0, 2] + (pad - 0.5))
    y = map_23[1, 0] * columns + map_23[1, 1] * rows + (map_23[1, 2] + (pad - 0.5))
    left, top = x.floor(), y.floor()
    across, down = x - left, y - top
    plane = nnf.pad(image_CHW - background_C[:, None, None], (1, 1, 1, 1))  # rim of background: difference 0
    plane_height, plane_width = plane.shape[1:]
    flat = plane.flatten(1)

    def tap(dy: int, dx: int) -> Tensor:
        row = (top.long() + dy + 1).clamp(0, plane_height - 1)
        column = (left.long() + dx + 1).clamp(0, plane_width - 1)
        return flat[:, row * plane_width + column]

    upper = tap(0, 0) * (1 - across) + tap(0, 1) * across
    lower = tap(1, 0) * (1 - across) + tap(1, 1) * across
    return upper * (1 - down) + lower * down + background_C[:, None, None]


def cover(values_Chw: Tensor, specks_K4: Float[Tensor, "K 4"]) -> Float[Tensor, "C h w"]:
    """Levels under anti-aliased discs (x, y, radius, level), one over the other; none of radius 0."""
    height, width = values_Chw.shape[1:]
    rows = torch.arange(height, dtype=torch.float32)[:, None] + 0.5
    columns = torch.arange(width, dtype=torch.float32)[None, :] + 0.5
    for x, y, radius, level in specks_K4:
        if radius > 0:
            share = (radius + 0.5 - torch.sqrt((columns - x) ** 2 + (rows - y) ** 2)).clamp(0, 1)
            values_Chw = values_Chw + share * (level - values_Chw)
    return values_Chw


def noise(key: int, height: int, width: int) -> Float[Tensor, "h w"]:
    """Deterministic noise of mean 0 and σ 1, nearly normal: the sum of four hashed bytes per pixel."""
    pixel = np.arange(height * width, dtype=np.uint64)
    words = finaliser(finaliser(pixel ^ np.uint64(key & 0xFFFFFFFF)) ^ np.uint64(key >> 32))
    total = words.astype("<u4").view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int64)
    sigma = math.sqrt(4 * (256**2 - 1) / 12)
    return (torch.from_numpy(total - 510).to(torch.float32) / sigma).reshape(height, width)


def patchify(values_Chw: Float[Tensor, "C h w"], patch_px: int) -> Float[Tensor, "n F"]:
    """Cut into P×P patches, row-major; a row holds (pixel row, pixel column, channel)."""
    channels, height, width = values_Chw.shape
    grid = values_Chw.reshape(channels, height // patch_px, patch_px, width // patch_px, patch_px)
    return grid.permute(1, 3, 2, 4, 0).reshape(-1, patch_px * patch_px * channels)
