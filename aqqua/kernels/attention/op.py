"""Attention inside each view of a packed batch: our Triton kernels as operators of PyTorch.

`aqqua::attention_forward` and `aqqua::attention_backward` launch one kernel per kind of tile that the
pack has: at most three launches a layer forward and three backward, none for a kind without sequences.
torch.compile looks inside them (torch.library.triton_op). In Triton's interpreter, which cannot be
traced, they are opaque operators with the same names.

One tensor [T, 3, H, E] goes in and one such gradient comes out, because that is what the fused
projection makes and wants: split into q, k and v, autograd would put the three gradients together again
with a copy of all of them.
"""

from collections.abc import Callable
from typing import Any, no_type_check

import torch
from torch import Tensor

from aqqua.kernels.attention import kernel
from aqqua.kernels.attention.kernel import tile_backward, tile_forward
from aqqua.kernels.attention.kernel_long import block_backward, block_forward
from aqqua.kernels.attention.launches import parameters
from aqqua.kernels.attention.schedule import BLOCK, NARROW, WIDE, Schedule
from aqqua.kernels.registration import on_device_of

LOG2_E = 1.4426950408889634
INTERPRETED: bool = kernel.INTERPRETED.value


def _as_is(kernel: Any) -> Any:
    return kernel


wrap_triton: Callable = _as_is if INTERPRETED else torch.library.wrap_triton


def _options(kernel: str, rows: int, qkv: Tensor, rotary: bool) -> dict[str, Any]:
    """Compile-time arguments of a launch."""
    heads, width = int(qkv.shape[2]), int(qkv.shape[3])  # fixed, also where torch.compile traces sizes
    chosen = parameters(kernel, rows, qkv.dtype, width)
    stages = {"STAGES": chosen.num_stages} if kernel.startswith("block") else {}
    constants = {"H": heads, "E": width, "R": rows, "ROTARY": rotary, **stages}
    if not INTERPRETED:
        constants |= {"num_warps": chosen.num_warps, "num_stages": chosen.num_stages}
    return constants


def forward(
    qkv_T3HE: Tensor,
    narrow_B2R: Tensor,
    wide_B2R: Tensor,
    blocks_B4: Tensor,
    cos_TE: Tensor | None,
    sin_TE: Tensor | None,
    rest_UHE: Tensor | None,
    rows_U: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √E) v of every sequence of a schedule, and log2 Σ 2^score of the blocks' rows.

    rest_UHE: the output of the sequences that another backend served, and rows_U their token rows.
    """
    T, _, H, E = qkv_T3HE.shape
    out_THE = qkv_T3HE.new_empty(T, H, E)
    lse_BHR = qkv_T3HE.new_empty(len(blocks_B4), H, BLOCK, dtype=torch.float32)
    rotary = cos_TE is not None
    cos, sin = (cos_TE, sin_TE) if cos_TE is not None else (qkv_T3HE, qkv_T3HE)
    strides = (*qkv_T3HE.stride()[:3], cos.stride(0))
    common = (cos, sin, E**-0.5 * LOG2_E, *strides)
    with on_device_of((qkv_T3HE,)):
        for table, rows in ((narrow_B2R, NARROW), (wide_B2R, WIDE)):
            if len(table):
                options = _options("tile_forward", rows, qkv_T3HE, rotary)
                wrap_triton(tile_forward)[(len(table) * H,)](qkv_T3HE, out_THE, table, *common, **options)
        if len(blocks_B4):
            options = _options("block_forward", BLOCK, qkv_T3HE, rotary)
            grid = (len(blocks_B4) * H,)
            wrap_triton(block_forward)[grid](qkv_T3HE, out_THE, lse_BHR, blocks_B4, *common, **options)
    if rest_UHE is not None and rows_U is not None:
        out_THE.index_copy_(0, rows_U, rest_UHE)
    return out_THE, lse_BHR


def backward(
    dout_THE: Tensor,
    qkv_T3HE: Tensor,
    out_THE: Tensor,
    lse_BHR: Tensor,
    narrow_B2R: Tensor,
    wide_B2R: Tensor,
    blocks_B4: Tensor,
    cos_TE: Tensor | None,
    sin_TE: Tensor | None,
) -> Tensor:
    """Gradient of qkv_T3HE; rows of sequences that are in no table are left unwritten."""
    T, _, H, E = qkv_T3HE.shape
    dqkv_T3HE = qkv_T3HE.new_empty(T, 3, H, E)
    rotary = cos_TE is not None
    cos, sin = (cos_TE, sin_TE) if cos_TE is not None else (qkv_T3HE, qkv_T3HE)
    strides = (*qkv_T3HE.stride()[:3], cos.stride(0))
    common = (cos, sin, E**-0.5, E**-0.5 * LOG2_E, *strides)
    with on_device_of((qkv_T3HE,)):
        for table, rows in ((narrow_B2R, NARROW), (wide_B2R, WIDE)):
            if len(table):
                options = _options("tile_backward", rows, qkv_T3HE, rotary)
                grid = (len(table) * H,)
                wrap_triton(tile_backward)[grid](qkv_T3HE, dout_THE, dqkv_T3HE, table, *common, **options)
        if len(blocks_B4):
            options = _options("block_backward", BLOCK, qkv_T3HE, rotary)
            tensors = (qkv_T3HE, out_THE, lse_BHR, dout_THE, dqkv_T3HE, blocks_B4)
            wrap_triton(block_backward)[(len(blocks_B4) * H,)](*tensors, *common, **options)
    return dqkv_T3HE


def _empty_forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    qkv_T3HE, blocks_B4 = inputs[0], inputs[3]
    T, _, H, E = qkv_T3HE.shape
    lse_BHR = qkv_T3HE.new_empty(len(blocks_B4), H, BLOCK, dtype=torch.float32)
    return qkv_T3HE.new_empty(T, H, E), lse_BHR


def _empty_backward(*inputs: Any) -> Tensor:
    return inputs[1].new_empty(inputs[1].shape)


def _register(name: str, function: Callable, empty: Callable) -> Any:
    if not INTERPRETED:
        return torch.library.triton_op(name, function, mutates_args={})
    op = torch.library.custom_op(name, function, mutates_args=())
    op.register_fake(empty)
    return op


attention_forward = _register("aqqua::attention_forward", forward, _empty_forward)
attention_backward = _register("aqqua::attention_backward", backward, _empty_backward)


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    qkv, narrow, wide, blocks, cos, sin, _, rows_U = inputs
    ctx.save_for_backward(qkv, *output, narrow, wide, blocks, cos, sin, rows_U)


def _differentiate(ctx: Any, dout_THE: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *saved, rows_U = ctx.saved_tensors
    dout_THE = dout_THE.contiguous()
    dqkv_T3HE = attention_backward(dout_THE, *saved)
    drest_UHE = None if rows_U is None else dout_THE.index_select(0, rows_U)
    return dqkv_T3HE, None, None, None, None, None, drest_UHE, None


attention_forward.register_autograd(_differentiate, setup_context=_keep)


@no_type_check  # torch.compile could not trace the shape checks of `make shapes` in here
class _TakeOut(torch.autograd.Function):
    """The pack itself, and some of its rows.

    The gradient of the pack is `attention_backward`'s own new tensor, in which exactly these rows are
    unwritten: theirs is put there, where autograd would fill a second tensor of this size with zeros
    and add the two.
    """

    @staticmethod
    def forward(ctx: Any, qkv_T3HE: Tensor, rows_U: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows_U)
        return qkv_T3HE.view_as(qkv_T3HE), qkv_T3HE.index_select(0, rows_U)

    @staticmethod
    def backward(ctx: Any, dqkv_T3HE: Tensor, drest_U3HE: Tensor) -> tuple[Tensor, None]:
        (rows_U,) = ctx.saved_tensors
        return dqkv_T3HE.index_copy_(0, rows_U, drest_U3HE), None


def attend(
    qkv_T3HE: Tensor,
    schedule: Schedule,
    rotary: tuple[Tensor, Tensor] | None,
    serve_rest: Callable[[Tensor, tuple[Tensor, Tensor] | None], Tensor],
) -> Tensor:
    """Attention of a pack by its schedule.

    Args:
        qkv_T3HE: as aqqua.kernels.attention.qkv_attention has checked it.
        schedule: of this pack, on its device.
        rotary: cosines and sines of each token.
        serve_rest: attention of the sequences beyond the limit, from their rows of qkv and of the tables.
    """
    tables = (schedule.narrow_B2R, schedule.wide_B2R, schedule.blocks_B4)
    angles = rotary if rotary is not None else (None, None)
    rest = schedule.rest
    if rest is None:
        return attention_forward(qkv_T3HE, *tables, *angles, None, None)[0]
    if not any(map(len, tables)):
        return serve_rest(qkv_T3HE, rotary)
    qkv_T3HE, rest_U3HE = _TakeOut.apply(qkv_T3HE, rest.rows_U)
    rest_rotary = None
    if rotary is not None:
        rest_rotary = rotary[0].index_select(0, rest.rows_U), rotary[1].index_select(0, rest.rows_U)
    rest_UHE = serve_rest(rest_U3HE, rest_rotary)
    return attention_forward(qkv_T3HE, *tables, *angles, rest_UHE, rest.rows_U)[0]
