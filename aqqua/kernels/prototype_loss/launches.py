"""Every kernel of the prototype loss as training launches it, for `aqqua.kernels.offline`.

K is no constant of any kernel, so one launch stands for 65 536, 131 072 and 262 144 prototypes; all are
multiples of 16, which the compiler is told, as it is on a GPU. Z is 256, or 384 (DINO of ViT-L and g).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aqqua.kernels.offline import SHARED_LIMIT, Launch
from aqqua.kernels.prototype_loss import (
    projected_gradients,
    projected_loss,
    projected_sweeps,
    stored_loss,
    stored_sweeps,
)
from aqqua.kernels.prototype_loss.projected_tiles import Blocks, Chip, Tiles, fit, parts

_TYPES = {"bf16": 2, "fp32": 4}  # bytes
_INTEGERS = frozenset({"R", "M", "N", "crops", "rows_per_share", "columns_per_share", "per_share"})
_ALIGNED = frozenset({"K", "stride", "rows_per_share", "columns_per_share", "per_share"})


def _signature(kernel: Any, constants: Mapping[str, Any], rows_type: str) -> dict[str, str]:
    """Argument types by the names the kernels share."""
    types = {"targets_ptr": "*i32", "total_ptr": "*i64"}
    given_rows = ("logits_ptr", "student", "teacher", "owned_ptr", "streamed_ptr")
    for name in kernel.arg_names:
        if name in constants or name in types:
            continue
        if name in _INTEGERS or name == "K" or name.startswith("stride"):
            types[name] = "i32"
        elif name.startswith("inverse"):
            types[name] = "fp32"
        else:
            types[name] = f"*{rows_type}" if name.startswith(given_rows) else "*fp32"
    return {name: types[name] for name in kernel.arg_names if name not in constants}


def _launch(name: str, kernel: Any, rows_type: str, constants: dict[str, Any], **options: Any) -> Launch:
    signature = _signature(kernel, constants, rows_type)
    if "gradient_ptr" in signature and kernel is not projected_gradients.rows_gradient_kernel:
        signature["gradient_ptr"] = f"*{rows_type}"
    aligned = frozenset(a for a in signature if a in _ALIGNED or a.startswith("stride"))
    return Launch(f"{name}, {rows_type}", kernel, signature, constants, aligned=aligned, **options)


def _stored(rows_type: str) -> Iterator[Launch]:
    for name, kernel, tile in (
        ("stored row sweep", stored_sweeps.row_kernel, stored_sweeps.ROW_TILE),
        ("stored column sweep", stored_sweeps.column_kernel, stored_sweeps.COLUMN_TILE),
    ):
        constants = {"BLOCK_R": tile.rows, "BLOCK_K": tile.columns}
        yield _launch(name, kernel, rows_type, constants, num_warps=tile.warps)
    for rows, tile in (("many", stored_loss.MANY_ROWS_TILE), ("few", stored_loss.FEW_ROWS_TILE)):
        for G in (1, 2):
            constants = {"G": G, "GRADIENT": True, "BLOCK_R": tile.rows, "BLOCK_K": tile.columns}
            name = f"stored loss, {rows} rows, {G} targets"
            yield _launch(name, stored_loss.cross_entropy_kernel, rows_type, constants, num_warps=tile.warps)
    tile = stored_loss.SCALE_TILE
    yield _launch(
        "stored scale", stored_loss.scale_kernel, rows_type, {"BLOCK_K": tile.columns}, num_warps=tile.warps
    )


def _projected(rows_type: str, Z: int, architecture: int) -> Iterator[Launch]:
    Z0, Z1 = parts(Z)
    width = {"Z": Z, "Z0": Z0, "Z1": Z1, "UPCAST": False}
    row_bytes = (Z0 + Z1) * _TYPES[rows_type]
    gpu = Chip(SHARED_LIMIT[architecture], copies=architecture == 100)
    names = {
        projected_sweeps.sweep_kernel: ("BLOCK_M", "BLOCK_N"),
        projected_loss.terms_kernel: ("BLOCK_R", "BLOCK_K"),
        projected_gradients.rows_gradient_kernel: ("BLOCK_R", "BLOCK_K"),
        projected_gradients.prototypes_gradient_kernel: ("BLOCK_K", "BLOCK_R"),
    }

    def fitted(title: str, kernel: Any, choices: tuple[Blocks, ...], tiles: Tiles) -> Launch:
        b = fit(choices, tiles, row_bytes, gpu)
        constants = {**width, **dict(zip(names[kernel], (b.owned, b.streamed), strict=True))}
        options = {"num_warps": b.warps, "num_stages": b.stages, "architectures": (architecture,)}
        return _launch(f"projected {title}, Z {Z}", kernel, rows_type, constants, **options)

    sweeps, loss, gradients = projected_sweeps, projected_loss, projected_gradients
    yield fitted("sweep", sweeps.sweep_kernel, sweeps.SWEEP_BLOCKS, sweeps.TILES)
    yield fitted("loss", loss.terms_kernel, loss.TERMS_BLOCKS, loss.TILES)
    for side, kernel in (
        ("dz", gradients.rows_gradient_kernel),
        ("dw", gradients.prototypes_gradient_kernel),
    ):
        yield fitted(side, kernel, gradients.GRADIENT_BLOCKS, gradients.TILES)


def launches() -> list[Launch]:
    """All of them, for every architecture."""
    tile = stored_sweeps.JOIN_TILE
    join = _launch("join", stored_sweeps.join_kernel, "fp32", {"BLOCK_K": tile.columns}, num_warps=tile.warps)
    projected = [
        launch
        for architecture in SHARED_LIMIT
        for Z in (256, 384)
        for launch in _projected("bf16", Z, architecture)
    ]
    return [join, *_stored("bf16"), *_stored("fp32"), *projected]
