"""How the Triton attention is launched, and every launch for the offline compiler.

The one table of launch parameters. All of them are guesses from the registers, spills and shared memory
that aqqua.kernels.offline shows, made without a GPU: a run on a GPU is what may change them. Imports
without Triton.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from aqqua.kernels.attention.schedule import BLOCK, NARROW, WIDE

if TYPE_CHECKING:
    from aqqua.kernels.offline import Launch

WIDTHS = (32, 64, 128)  # of a head
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class Parameters:
    """What a kernel is launched with."""

    num_warps: int
    num_stages: int = 1  # of loads ahead in the loops of kernel_long.py; the tile kernels have none


_HALF = {
    # One warpgroup holds 64 rows of wgmma; more warps would only split its columns.
    ("tile_forward", NARROW): Parameters(4),
    ("tile_backward", NARROW): Parameters(4),
    ("tile_forward", WIDE): Parameters(8),
    ("tile_backward", WIDE): Parameters(8),
    ("block_forward", BLOCK): Parameters(4, 2),
    # A second stage spills here on sm_90 (255 registers); four warps leave two programs on an SM.
    ("block_backward", BLOCK): Parameters(4),
}
# Gradients of 128 columns take twice the registers.
_HALF_128 = {
    **_HALF,
    ("tile_backward", NARROW): Parameters(8),
    ("block_backward", BLOCK): Parameters(8),
}
# No matrix instruction serves full float32: products run on the scalar units, which want warps.
_SINGLE = Parameters(8)


def parameters(kernel: str, rows: int, dtype: torch.dtype, width: int) -> Parameters:
    """Launch parameters of a kernel for tiles (blocks) of `rows` and heads of `width`."""
    if dtype == torch.float32:
        return _SINGLE
    return (_HALF_128 if width == 128 else _HALF)[kernel, rows]


def largest_tile(device: torch.device, dtype: torch.dtype) -> int:
    """Rows of the largest tile worth using: `largest_tile` of `schedule.make_schedule`.

    128 where wgmma or tcgen05 reads its operands from shared memory. Before sm_90 they are held in
    registers and the wide backward kernel spills; in float32 it does everywhere.
    """
    if dtype == torch.float32:
        return NARROW
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (9, 0):
        return NARROW
    return WIDE


# Bytes a thread spills, at most, before sm_90 and since: sm_80 holds what mma.sync multiplies in registers,
# float32 what the scalar units do, and gradients of 128 columns take twice as many. Heads of 32 and 64 in
# half precision, which training is for, spill nothing on sm_90 and sm_100.
_SPILLS = {
    ("block_backward", "bf16", 64): (32, 0),
    ("block_backward", "bf16", 128): (1024, 64),
    ("tile_forward", "bf16", 128): (0, 32),
    ("tile_backward", "bf16", 128): (64, 32),
    ("tile_backward", "fp32", 64): (256, 256),
    ("block_backward", "fp32", 64): (1088, 1088),
}


def launches() -> "list[Launch]":
    """Every kernel as training launches it: head width 64 with and without rotary, 32 and 128 with; in
    float32 64 with. float16 compiles to what bfloat16 does but for the instructions' names.

    Once for sm_80 and once for sm_90 and sm_100, of which other spills are expected; wide tiles are not
    launched on sm_80.
    """
    variants = (("bf16", 64, False), ("bf16", 64, True), ("bf16", 32, True), ("bf16", 128, True))
    half = [(key, *variant) for variant in variants for key in _HALF]
    single = [(key, "fp32", 64, True) for key in _HALF if key[1] != WIDE]
    since_90 = [_launch(*what, (90, 100)) for what in (*half, *single)]
    return since_90 + [_launch(*what, (80,)) for what in (*half, *single) if what[0][1] != WIDE]


def _launch(
    key: tuple[str, int], dtype: str, width: int, rotary: bool, architectures: tuple[int, ...]
) -> "Launch":
    from aqqua.kernels.attention import kernel, kernel_long
    from aqqua.kernels.offline import Launch

    name, rows = key
    function = getattr(kernel if name.startswith("tile") else kernel_long, name)
    tensors = ("qkv_ptr", "out_ptr", "dout_ptr", "dqkv_ptr")
    strides = ("stride_t", "stride_3", "stride_h", "stride_angle")
    angles = "*fp32" if rotary else f"*{dtype}"  # without rotary qkv stands in for the tables
    types = {
        **dict.fromkeys(tensors, f"*{dtype}"),
        **dict.fromkeys(strides, "i32"),
        **{"table_ptr": "*i32", "lse_ptr": "*fp32", "scale": "fp32", "scale_log2": "fp32"},
        **{"cos_ptr": angles, "sin_ptr": angles},
    }
    chosen = parameters(name, rows, torch.float32 if dtype == "fp32" else torch.bfloat16, width)
    constants = {"H": 12, "E": width, "R": rows, "ROTARY": rotary}
    constants["STAGES"] = chosen.num_stages
    names = function.arg_names
    return Launch(
        name=f"attention {name.replace('_', ' ')}, {rows} rows, {dtype}, E {width}{', rotary' * rotary}",
        kernel=function,
        signature={arg: types[arg] for arg in names if arg in types},
        constants={arg: value for arg, value in constants.items() if arg in names},
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        max_spill_bytes=_SPILLS.get((name, dtype, width), (0, 0))[architectures != (80,)],
        architectures=architectures,
        aligned=frozenset(arg for arg in strides if arg in names),
    )
