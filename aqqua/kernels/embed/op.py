"""Patch rows to packed tokens: the kernels as torch operators with gradients."""

from typing import Any, no_type_check

import torch
from torch import Tensor

from aqqua.kernels.embed import kernel
from aqqua.kernels.registration import launch, operator

# Reasoned, and checked by offline compilation; not yet measured on a GPU. One warp holds 128 channels, four
# neighbouring ones (16 bytes of float32) per lane. Forward, each of four warps has tokens of its own, as many
# as leave three programs or more to a multiprocessor; the code decides how many.
FORWARD_TILE = {"BLOCK_D": 128, "VECTOR": 4, "num_warps": 4}
FORWARD_ROWS = {"none": 16, "grid": 16, "fractions": 16, "sine": 4}
# Where a program sums over tokens, one warp has all of them.
TILE = {"ROWS": 8, "BLOCK_D": 128, "VECTOR": 4, "num_warps": 1}
FRACTIONS_TILE = {"ROWS": 32, "BLOCK_D": 64, "num_warps": 4}
WIDEST_BLOCK = 32  # positions of a fractional table that one program sums for
PROGRAMS = 16 * 132  # of a pass that sums over tokens: 16 on each of an H200's multiprocessors
FRACTIONS_PROGRAMS = 4 * 132


# Functions of sizes are marked no_type_check: what traces them calls them with symbols for integers, which
# the checks of `make shapes` would refuse.


@no_type_check
def _across(width: int, tile: dict[str, int]) -> int:
    """Blocks of columns."""
    return -(-width // tile["BLOCK_D"])


@no_type_check
def _shared_out(rows: int, across: int, programs: int, tile: dict[str, int]) -> int:
    """Programs that share the tiles of so many rows, per block of columns; at least one."""
    return torch.sym_max(torch.sym_min(-(-rows // tile["ROWS"]), torch.sym_max(programs // across, 1)), 1)


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """A pointer for an argument that the kernel will not look at: not every tracer takes None."""
    return stand_in if tensor is None else tensor


def _bytes(mask: Tensor | None, stand_in: Tensor) -> Tensor:
    return stand_in if mask is None else mask.view(torch.uint8)


@operator("embed")
@no_type_check
def embed(
    rows: Tensor, bias: Tensor | None, cls: Tensor, registers: Tensor,
    mask_token: Tensor | None, mask: Tensor | None, scale: Tensor | None,
    code: Tensor | None, other: Tensor | None, of_view: Tensor | None, kind: str,
    offsets: Tensor, view: Tensor, grids: Tensor, prefix: int, sums: list[Tensor],  # noqa: ARG001
) -> Tensor:  # fmt: skip
    """Tokens of a pack.

    Args:
        kind: 'none', 'grid', 'fractions' or 'sine'; kernel.forward_kernel says what code, other and of_view
            then are.
        sums: for the backward pass of 'grid', the three tensors of each stage of placing.RowSums.
    """
    T, D = view.shape[0], rows.shape[1]
    x = cls.new_empty(T, D)
    positions = code.shape[0] if kind == "fractions" and code is not None else 0
    tile = {"ROWS": FORWARD_ROWS[kind], **FORWARD_TILE}
    launch(
        kernel.forward_kernel, (-(-T // tile["ROWS"]) * _across(D, tile),),
        rows, _or(bias, cls), _bytes(mask, cls), _or(mask_token, cls), cls, _or(scale, cls), registers,
        _or(code, cls), _or(other, cls), _or(of_view, offsets), grids, offsets, view, x,
        T, prefix, positions,
        D=D, BIAS=bias is not None, MASK=mask is not None, SCALE=scale is not None,
        GRID=kind == "grid", FRACTIONS=kind == "fractions", SINE=kind == "sine", **tile,
    )  # fmt: skip
    return x


@operator("embed_patches_backward")
@no_type_check
def patches_backward(
    dx: Tensor, mask: Tensor | None, relative: Tensor | None, offsets: Tensor, view: Tensor,
    patches: int, prefix: int, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradient of the rows; and of bias, mask token and vector of unknown scale, [3, D], float32."""
    T, D = dx.shape
    across = _across(D, TILE)
    programs = _shared_out(T, across, PROGRAMS, TILE)
    drows = dx.new_empty(patches, D, dtype=dtype)
    partial = dx.new_empty(programs, 3, D, dtype=torch.float32)
    launch(
        kernel.patches_backward_kernel, (programs * across,),
        dx, _bytes(mask, dx), _or(relative, dx), offsets, view, drows, partial, T, prefix,
        D=D, MASK=mask is not None, SINE=relative is not None, **TILE,
    )  # fmt: skip
    return drows, partial.sum(0)


@operator("embed_prefix_backward")
@no_type_check
def prefix_backward(
    dx: Tensor, offsets: Tensor, prefix: int, scale_dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Gradient of CLS and registers, [R, D], float32; and of the views' scales, [V, D], or no rows of it."""
    V, D = offsets.shape[0] - 1, dx.shape[1]
    across = _across(D, TILE)
    programs = _shared_out(V, across * prefix, PROGRAMS, TILE)
    dscale = dx.new_empty(0 if scale_dtype is None else V, D, dtype=scale_dtype or dx.dtype)
    partial = dx.new_empty(programs, prefix, D, dtype=torch.float32)
    launch(
        kernel.prefix_backward_kernel, (programs * prefix * across,),
        dx, offsets, dscale, partial, V, prefix, D=D, SCALE=scale_dtype is not None, **TILE,
    )  # fmt: skip
    return partial.sum(0), dscale


@operator("embed_sum_rows")
@no_type_check
def sum_rows(rows: Tensor, owner: Tensor, lists: Tensor, starts: Tensor) -> Tensor:
    """Sums of runs of rows, in float32: placing.RowSums."""
    P, D = owner.shape[0], rows.shape[1]
    out = rows.new_empty(P, D, dtype=torch.float32)
    launch(
        kernel.sum_rows_kernel, (-(-P // TILE["ROWS"]) * _across(D, TILE),),
        rows, owner, lists, starts, out, P, D=D, **TILE,
    )  # fmt: skip
    return out


@operator("embed_fractions_backward")
@no_type_check
def fractions_backward(
    dx: Tensor, offsets: Tensor, view: Tensor, grids: Tensor, prefix: int, positions: int
) -> Tensor:
    """Gradients of the tables of rows and of columns, [2, M, D], float32."""
    T, D = dx.shape
    block = position_block(positions)
    blocks, across = -(-positions // block), _across(D, FRACTIONS_TILE)
    programs = _shared_out(T, across * blocks, FRACTIONS_PROGRAMS, FRACTIONS_TILE)
    partial = dx.new_empty(programs, 2, positions, D, dtype=torch.float32)
    launch(
        kernel.fractions_backward_kernel, (programs * across, blocks),
        dx, grids, offsets, view, partial, T, prefix, positions, D=D, BLOCK_M=block, **FRACTIONS_TILE,
    )  # fmt: skip
    return partial.sum(0)


@no_type_check
def position_block(positions: int) -> int:
    """Positions of a fractional table that one program sums for; 16 rows are the least of a product."""
    return 16 if positions <= 16 else WIDEST_BLOCK


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:  # noqa: ARG001
    rows, bias, cls, registers, mask_token, mask, scale, code, other, of_view, ctx.kind, *places = inputs
    offsets, view, grids, ctx.prefix, sums = places
    ctx.save_for_backward(mask, of_view, offsets, view, grids, *sums)
    ctx.patches, ctx.positions = rows.shape[0], None if code is None else code.shape[0]
    given = {"rows": rows, "bias": bias, "cls": cls, "registers": registers, "mask_token": mask_token}
    given |= {"scale": scale, "code": code, "other": other}
    ctx.dtypes = {name: None if tensor is None else tensor.dtype for name, tensor in given.items()}
    ctx.stages = len(sums)


def _gradient(ctx: Any, dx: Tensor) -> tuple[Any, ...]:
    mask, of_view, offsets, view, grids, *sums = ctx.saved_tensors
    dx = dx.contiguous()
    relative = of_view if ctx.kind == "sine" else None
    settings = ctx.patches, ctx.prefix, ctx.dtypes["rows"]
    drows, (dbias, dmask, dunknown) = patches_backward(dx, mask, relative, offsets, view, *settings)
    dprefix, dscale = prefix_backward(dx, offsets, ctx.prefix, ctx.dtypes["scale"])
    dcode, dother = None, None
    if ctx.kind == "grid":
        assert sums, "a table of grids that wants a gradient must be given its sums"
        dcode = dx
        for stage in range(0, ctx.stages, 3):
            dcode = sum_rows(dcode, *sums[stage : stage + 3])
    elif ctx.kind == "fractions":
        dcode, dother = fractions_backward(dx, offsets, view, grids, ctx.prefix, ctx.positions)
    elif ctx.kind == "sine":
        dcode = dunknown
    found = {"rows": drows, "bias": dbias, "cls": dprefix[0], "registers": dprefix[1:], "mask_token": dmask}
    found |= {"mask": None, "scale": dscale, "code": dcode, "other": dother}
    gradients = [_as(gradient, ctx.dtypes.get(name)) for name, gradient in found.items()]
    return *gradients, None, None, None, None, None, None, [None] * ctx.stages


def _as(gradient: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if gradient is None or dtype is None else gradient.to(dtype)


embed.register_autograd(_gradient, setup_context=_save)
