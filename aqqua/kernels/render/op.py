"""The render kernel as a torch operator. It has no gradient: pixels are not learned."""

import torch
from torch import Tensor

from aqqua.kernels.registration import launch, operator
from aqqua.kernels.render import kernel
from aqqua.kernels.render.scene import BLOCK_E, Scene

# A guess until bench/kernels/render.py was run on a GPU: a thread holds BLOCK_E / 128 = 4 values, which share
# the scalar work of a tap (its weight, the loop) and are 4 loads under way; 8 take twice the registers.
NUM_WARPS = 4


@operator("render")
def _render(
    pixels: Tensor, offset: Tensor, height: Tensor, width: Tensor, channels: Tensor, bits: Tensor,
    background: Tensor, image: Tensor, grid: Tensor, map_: Tensor, sigma: Tensor, reach: Tensor,
    scale: Tensor, bias: Tensor, noise: Tensor, key: Tensor, speck: Tensor, colour: Tensor, coloured: Tensor,
    fold: Tensor, row: Tensor, tile: Tensor, first: Tensor, rows: int,
    patch_px: int, model_channels: int, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    out = pixels.new_empty(rows, patch_px * patch_px * model_channels, dtype=dtype)
    launch(
        kernel.render_kernel, (tile.shape[0],),
        pixels, offset, height, width, channels, bits, background, image, grid, map_,
        sigma, reach, scale, bias, noise, key, speck, colour, coloured, fold, row, tile, first, out,
        speck.shape[1],
        P=patch_px, C=model_channels, BLOCK_E=BLOCK_E, num_warps=NUM_WARPS,
    )  # fmt: skip
    return out


def render(scene: Scene, patch_px: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Patch rows of all views in packed order, by one launch."""
    if scene.rows == 0:
        return scene.pixels_B.new_empty(0, patch_px * patch_px * channels, dtype=dtype)
    return _render(
        scene.pixels_B, scene.offset_I, scene.height_I, scene.width_I, scene.channels_I, scene.bits_I,
        scene.background_I3, scene.image_V, scene.grid_V2, scene.map_V23, scene.sigma_V, scene.reach_V,
        scene.scale_V, scene.bias_V3, scene.noise_V, scene.key_V, scene.speck_VK4, scene.colour_Z33,
        scene.coloured_V, scene.fold_V3, scene.row_V, scene.tile_U, scene.first_V, scene.rows,
        patch_px, channels, dtype,
    )  # fmt: skip
