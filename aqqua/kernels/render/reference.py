"""Views of images to patch rows: the specification, one view at a time, in float64 where that can matter.

A bilinear sample of a blurred image is a sum over source pixels whose weights are a product of one factor
for the column and one for the row; here each view's factors are written out for all columns and rows of
its image. The same views as aqqua/render/reference.py makes, which blurs first and samples then.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.kernels.render.scene import Scene

LUMA = (0.299, 0.587, 0.114)  # grey of a colour image, ITU-R BT.601


def render_reference(
    scene: Scene, patch_px: int, channels: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "N F"]:
    """Patch rows of all views in packed order."""
    planes = [_plane(scene, i, channels) for i in range(len(scene.height_I))]
    rows = [_view(scene, v, planes[scene.image_V[v]], patch_px) for v in range(len(scene.image_V))]
    return torch.cat(rows).to(dtype)


def _plane(scene: Scene, i: int, channels: int) -> tuple[Tensor, Tensor]:
    """Levels [C, H, W] and background [C] of an image, in [0, 1]."""
    height, width, stored = int(scene.height_I[i]), int(scene.width_I[i]), int(scene.channels_I[i])
    wide = int(scene.bits_I[i]) == 16
    first = int(scene.offset_I[i])
    raw = scene.pixels_B[first : first + height * width * stored * (2 if wide else 1)]
    levels = raw.view(torch.uint16).int() if wide else raw.int()
    full = 65535.0 if wide else 255.0
    image_CHW = levels.reshape(height, width, stored).permute(2, 0, 1).double() / full
    background_C = scene.background_I3[i].double() / full
    if channels == 3:
        return image_CHW.expand(3, -1, -1), background_C
    luma = torch.tensor(LUMA, dtype=torch.float64, device=raw.device)
    if stored == 3:
        image_CHW = (image_CHW * luma[:, None, None]).sum(0, keepdim=True)
    return image_CHW, (background_C * luma).sum(0, keepdim=True)


def _view(scene: Scene, v: int, plane: tuple[Tensor, Tensor], patch_px: int) -> Tensor:
    image_CHW, background_C = plane
    height, width = (int(side) * patch_px for side in scene.grid_V2[v])
    reach, sigma, map_23 = int(scene.reach_V[v]), float(scene.sigma_V[v]), scene.map_V23[v]
    # In float32 and in this order, as of aqqua/render/reference.py: far from 0 a rounding moves a point.
    row = torch.arange(height, dtype=torch.float32, device=map_23.device)[:, None] + 0.5
    column = torch.arange(width, dtype=torch.float32, device=map_23.device)[None, :] + 0.5
    x, y = (at[0] * column + at[1] * row + (at[2] + (reach - 0.5)) for at in map_23)
    across = _weights(x.flatten(), image_CHW.shape[2], reach, sigma)
    down = _weights(y.flatten(), image_CHW.shape[1], reach, sigma)
    difference = image_CHW - background_C[:, None, None]
    values = torch.einsum("ph,chw,pw->cp", down, difference, across) + background_C[:, None]
    values = _cover(values, column.expand(height, -1).flatten(), row.expand(-1, width).flatten(), scene, v)
    bias_C, fold_C = scene.bias_V3[v].double(), scene.fold_V3[v].double()
    if len(values) == 1:
        bias_C, fold_C = ((c * c.new_tensor(LUMA)).sum(0, keepdim=True) for c in (bias_C, fold_C))
    else:
        values = scene.colour_Z33[v].double() @ values
    values = values * float(scene.scale_V[v]) + bias_C[:, None]
    values = torch.minimum(values, fold_C[:, None] - values)
    if scene.noise_V[v]:
        values = values + float(scene.noise_V[v]) * _noise(int(scene.key_V[v]), height * width, x.device)
    grid = values.reshape(-1, height // patch_px, patch_px, width // patch_px, patch_px)
    return grid.permute(1, 3, 2, 4, 0).reshape(-1, patch_px * patch_px * len(values)).float()


def _cover(values_Cp: Tensor, column_p: Tensor, row_p: Tensor, scene: Scene, v: int) -> Tensor:
    """Levels under the specks of a view, one after the other."""
    for x, y, radius, level in scene.speck_VK4[v].double():
        if radius > 0:
            share = (radius + 0.5 - torch.hypot(column_p.double() - x, row_p.double() - y)).clamp(0, 1)
            values_Cp = values_Cp + share * (level - values_Cp)
    return values_Cp


def _weights(at_p: Tensor, side: int, reach: int, sigma: float) -> Float[Tensor, "p side"]:
    """How much each source pixel along an axis counts at each point.

    Args:
        at_p: pixel of the blurred image, which begins `reach` px before the image and ends as much behind.
    """
    at_p = at_p.nan_to_num(-1.0).clamp(-1.0, float(side + 2 * reach))  # all beyond is background
    first = at_p.floor()
    beyond = (at_p - first).double()[:, None]
    distance = torch.arange(side, device=at_p.device) - (first.double()[:, None] - reach)
    return _bell(distance, reach, sigma) * (1 - beyond) + _bell(distance - 1, reach, sigma) * beyond


def _bell(distance: Tensor, reach: int, sigma: float) -> Tensor:
    """The Gaussian at whole distances, cut off at `reach`; its values there sum to 1."""
    if reach == 0:
        return (distance == 0).double()
    total = sum(math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1))
    return torch.exp(-0.5 * (distance / sigma) ** 2) / total * (distance.abs() <= reach)


def _noise(key: int, count: int, device: torch.device) -> Tensor:
    """Of mean 0 and σ 1: the sum of four hashed bytes per pixel."""
    pixel = torch.arange(count, dtype=torch.int64, device=device)
    words = _mix32(_mix32(pixel ^ (key & 0xFFFFFFFF)) ^ (key >> 32 & 0xFFFFFFFF))
    total = (words & 255) + (words >> 8 & 255) + (words >> 16 & 255) + (words >> 24 & 255)
    return (total - 510).double() / math.sqrt(4 * (256**2 - 1) / 12)


def _mix32(x: Tensor) -> Tensor:
    """32-bit finaliser of MurmurHash3 on values held in int64."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)
