"""What the render kernel draws: images, views of them, and which program does which part of which view.

Letter key: B bytes, I images, V views, K specks of a view, U programs, P patch side, C channels of the model,
N patch rows, F = P·P·C values of a patch row. Test: tests/kernels/test_render.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

REACH = 3.0  # the Gaussian ends at this many σ; aqqua/render/reference.py
SMALLEST_SIGMA = 0.2  # source px; below it there is no blur; aqqua/render/reference.py
BLOCK_E = 512  # output values of one program


@dataclass(frozen=True, eq=False)
class Scene:
    """Images and the views of them, all tensors on one device. The kernel trusts every number of it.

    Attributes:
        pixels_B: rows from the top, channels interleaved, 16-bit words in the machine's order. An even count.
        offset_I: first byte of each image in pixels_B, even.
        height_I, width_I: pixels, at least 1 and below 2²⁴; height · width · channels below 2³¹.
        channels_I: 1 or 3.
        bits_I: 8 or 16.
        background_I3: grey levels of the image's own bits. Of a grey image they may differ by channel too.
        image_V: which image a view shows.
        grid_V2: patch rows and columns, at least 1.
        map_V23: output px -> source px, as aqqua.plan.views.Views says. Any finite number.
        sigma_V: of the Gaussian, source px.
        reach_V: of the Gaussian, source px: `reach` of sigma_V.
        scale_V, bias_V3, noise_V: a value is y = scale · level in [0, 1] + bias, the smaller one of y and
            fold - y, plus noise · normal number.
        key_V: the bits of the 64-bit key of a view's noise.
        speck_VK4: x, y and radius of each speck in output px, its level in [0, 1]; none of radius 0.
        colour_Z33: out channel, in channel; after the specks. Z is V, or 0 for a model of one channel.
        coloured_V: 1 where colour_Z33 is not the identity, else 0.
        fold_V3: 1e30 for none.
        row_V: first of its patch rows in the output.
        tile_U, first_V: `tiles` of grid_V2 and reach_V.
        rows: N, the patch rows of all views.
    """

    pixels_B: UInt8[Tensor, " B"]
    offset_I: Int64[Tensor, " I"]
    height_I: Int32[Tensor, " I"]
    width_I: Int32[Tensor, " I"]
    channels_I: Int32[Tensor, " I"]
    bits_I: Int32[Tensor, " I"]
    background_I3: Float32[Tensor, "I 3"]
    image_V: Int32[Tensor, " V"]
    grid_V2: Int32[Tensor, "V 2"]
    map_V23: Float32[Tensor, "V 2 3"]
    sigma_V: Float32[Tensor, " V"]
    reach_V: Int32[Tensor, " V"]
    scale_V: Float32[Tensor, " V"]
    bias_V3: Float32[Tensor, "V 3"]
    noise_V: Float32[Tensor, " V"]
    key_V: Int64[Tensor, " V"]
    speck_VK4: Float32[Tensor, "V K 4"]
    colour_Z33: Float32[Tensor, "Z 3 3"]
    coloured_V: Int32[Tensor, " V"]
    fold_V3: Float32[Tensor, "V 3"]
    row_V: Int64[Tensor, " V"]
    tile_U: Int32[Tensor, " U"]
    first_V: Int32[Tensor, " V"]
    rows: int


def reach(sigma_V: Float32[np.ndarray, " V"]) -> Int32[np.ndarray, " V"]:
    """How many source pixels each view's Gaussian reaches to each side; 0 where it is not blurred."""
    sigma_V = sigma_V.astype(np.float64)
    return np.where(sigma_V < SMALLEST_SIGMA, 0, np.ceil(REACH * sigma_V)).astype(np.int32)


def tiles(
    grid_V2: Int32[np.ndarray, "V 2"], reach_V: Int32[np.ndarray, " V"], patch_px: int, channels: int
) -> tuple[Int32[np.ndarray, " U"], Int32[np.ndarray, " V"]]:
    """The view of each program, and the first program of each view; its others follow.

    A program does BLOCK_E values of one view, the last one fewer. Views of the widest Gaussians come first,
    so that no long program is left for the end, when most of the chip has nothing to do.
    """
    values_V = grid_V2.astype(np.int64).prod(axis=1) * (patch_px * patch_px * channels)
    count_V = -(-values_V // BLOCK_E)
    order_V = np.argsort(-reach_V, kind="stable")
    first_V = np.empty(len(grid_V2), np.int32)
    first_V[order_V] = count_V[order_V].cumsum() - count_V[order_V]
    return np.repeat(order_V, count_V[order_V]).astype(np.int32), first_V
