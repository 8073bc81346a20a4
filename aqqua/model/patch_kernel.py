"""A patch embedding for patches of another side than it was made for.

One weight serves every patch side: it is stored for one, and for another it becomes the kernel whose answer
to a resized patch is nearest the stored one's answer to the patch itself, over all patches. Enlarging, the
two are equal. Source: FlexiViT (Beyer 2023, arXiv 2212.08013), section 3.4, w' = (Bᵀ)⁺ w with B the matrix of
the resize.

Letter key: D width, C channels, A stored side, B new side, F values of a patch row. Test:
tests/model/test_patch_kernel.py, tests/model/test_weights.py.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

SIDES_KEPT = 32  # matrices that stay in memory: 0.5 MB for 16 to 32 px


@lru_cache(maxsize=SIDES_KEPT)
def kernel_resize(old: int, side: int, device: torch.device) -> Float[Tensor, "BB AA"]:
    """What makes a kernel of old² values one of side², in float64.

    The resize of patches is bicubic with antialias, as in timm's resample_patch_embed.
    """
    unit = torch.eye(old**2).reshape(old**2, 1, old, old)
    resize_XY = interpolate(unit, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    return torch.linalg.pinv(resize_XY.flatten(1).double()).to(device)  # rows: new pixels; columns: old ones


def resized_rows(weight_DF: Float[Tensor, "D F"], old: int, side: int, channels: int) -> Float[Tensor, "D G"]:
    """The weight of a patch embedding on patch rows of another side; gradients flow to `weight_DF`.

    Args:
        weight_DF: for rows of old² pixels, values as (row, column, channel).
        old, side: patch sides in pixels.
        channels: of a pixel.
    """
    if old == side:
        return weight_DF
    # Half precision would round the kernel more than the resize changes it.
    with torch.autocast(weight_DF.device.type, enabled=False):
        matrix_BA = kernel_resize(old, side, weight_DF.device).to(weight_DF.dtype)
        weight_DAC = weight_DF.unflatten(1, (old**2, channels))
        return torch.einsum("ba,dac->dbc", matrix_BA, weight_DAC).flatten(1)
