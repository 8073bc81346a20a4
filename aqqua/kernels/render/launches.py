"""The render kernel as training launches it, for offline compilation."""

from aqqua.kernels.offline import Launch
from aqqua.kernels.render import kernel
from aqqua.kernels.render.op import NUM_WARPS
from aqqua.kernels.render.scene import BLOCK_E

SHAPES = ((16, 1), (14, 1), (8, 1), (16, 3), (14, 3))  # patch side, channels of the model

_TYPES = {
    "pixels_ptr": "*u8", "offset_ptr": "*i64", "height_ptr": "*i32", "width_ptr": "*i32",
    "channels_ptr": "*i32", "bits_ptr": "*i32", "background_ptr": "*fp32", "image_ptr": "*i32",
    "grid_ptr": "*i32", "map_ptr": "*fp32", "sigma_ptr": "*fp32", "reach_ptr": "*i32", "scale_ptr": "*fp32",
    "bias_ptr": "*fp32", "noise_ptr": "*fp32", "key_ptr": "*i64", "speck_ptr": "*fp32", "colour_ptr": "*fp32",
    "coloured_ptr": "*i32", "fold_ptr": "*fp32", "row_ptr": "*i64", "tile_ptr": "*i32", "first_ptr": "*i32",
}  # fmt: skip


def launches() -> list[Launch]:
    """Both dtypes of rows, the patches of our models, grey and colour."""
    return [
        Launch(
            f"render, patch {patch_px}, {channels} channels, {dtype}",
            kernel.render_kernel,
            {**_TYPES, "out_ptr": f"*{dtype}", "specks": "i32"},
            {"P": patch_px, "C": channels, "BLOCK_E": BLOCK_E},
            num_warps=NUM_WARPS,
        )
        for patch_px, channels in SHAPES
        for dtype in ("bf16", "fp32")
    ]
