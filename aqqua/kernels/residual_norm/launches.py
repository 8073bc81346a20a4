"""Every kernel of residual_norm as training launches it, for offline compilation."""

from aqqua.kernels.offline import Launch
from aqqua.kernels.residual_norm import kernel
from aqqua.kernels.residual_norm.op import tile_of

WIDTHS = (192, 384, 768, 1024, 1536)
# Stream and compute dtype: mixed precision, all bf16, all float32.
PRECISIONS = (("fp32", "bf16"), ("bf16", "bf16"), ("fp32", "fp32"))


def launches() -> list[Launch]:
    """Each width and precision, without stochastic depth (fast path) and with it; the ends of the chain."""
    found = []
    for width in WIDTHS:
        for stream, compute in PRECISIONS:
            for tables in (False, True):
                found += [_launch(direction, width, stream, compute, tables) for direction in _DIRECTIONS]
    return found


_POINTERS = {
    "forward": {
        "x_ptr": "stream", "branch_ptr": "compute", "gamma_ptr": "fp32", "position_ptr": "i32",
        "weight_ptr": "fp32", "bias_ptr": "fp32", "next_ptr": "i32", "y_ptr": "stream", "z_ptr": "compute",
        "mean_ptr": "fp32", "rstd_ptr": "fp32",
    },
    "backward": {
        "dy_ptr": "stream", "dz_ptr": "compute", "y_ptr": "stream", "mean_ptr": "fp32", "rstd_ptr": "fp32",
        "branch_ptr": "compute", "gamma_ptr": "fp32", "position_ptr": "i32", "weight_ptr": "fp32",
        "next_ptr": "i32", "dx_ptr": "stream", "dbranch_ptr": "compute", "partial_ptr": "fp32",
    },
}  # fmt: skip
# What is launched: pointers, further arguments, constants.
_DIRECTIONS = {
    "forward": ("forward", {"T": "i32", "gain": "fp32", "eps": "fp32"}, {"BRANCH": True}),
    "backward": ("backward", {"T": "i32", "gain": "fp32"}, {"BRANCH": True, "STREAM": True}),
    "norm forward": ("forward", {"T": "i32", "gain": "fp32", "eps": "fp32"}, {"BRANCH": False}),
    "norm backward": ("backward", {"T": "i32", "gain": "fp32"}, {"BRANCH": False, "STREAM": False}),
}


def _launch(direction: str, width: int, stream: str, compute: str, tables: bool) -> Launch:
    pointers, scalars, constants = _DIRECTIONS[direction]
    types = {"stream": stream, "compute": compute}
    itemsize = 4 if stream == "fp32" else 2
    tile = tile_of(width, itemsize)
    rows = tile.forward_rows if pointers == "forward" else tile.backward_rows
    sizes = {"D": width, "BLOCK_D": tile.block, "ROWS": rows, "VECTOR": 16 // itemsize}
    return Launch(
        name=f"residual_norm {direction}, D {width}, {stream} stream, {compute}, drop-path {tables}",
        kernel=kernel.forward_kernel if pointers == "forward" else kernel.backward_kernel,
        signature={name: f"*{types.get(kind, kind)}" for name, kind in _POINTERS[pointers].items()} | scalars,
        constants={**sizes, **constants, "TABLE": tables, "NEXT_TABLE": tables},
        num_warps=tile.warps,
        # In float32 ptxas for sm_80 stops at 72 registers where 80 leave as many programs resident.
        max_spill_bytes=8 if direction == "backward" and stream == compute == "fp32" else 0,
    )
