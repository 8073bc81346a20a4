"""Every kernel of optim as training launches it, for offline compilation."""

from typing import Any

import triton.language as tl

from aqqua.kernels.offline import Launch
from aqqua.kernels.optim import kernel
from aqqua.kernels.optim.op import CHUNK, FACTORS, TILES

_TYPES = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}
_WHERE = {"gradients_ptr": "*i64", "tensors_ptr": "*i64", "chunks_ptr": "*i32"}
_FACTORS = {
    "partial_ptr": "*fp32", "first_ptr": "*i32", "squares_ptr": "*fp32", "norms_ptr": "*fp32",
    "found_ptr": "*fp32", "gradients_ptr": "*i64", "tensors_ptr": "*i64", "rates_ptr": "*fp64",
    "counts_ptr": "*fp32", "rows_ptr": "*fp32", "S": "i32", "max_norm": "fp32",
}  # fmt: skip


def launches() -> list[Launch]:
    """Squares and update by dtype of the gradient, aligned or not, with and without teacher and copy."""
    found = []
    for dtype in ("fp32", "bf16"):
        for aligned in (True, False):
            walk = {"GRADIENT": _TYPES[dtype], "ALIGNED": aligned, "CHUNK": CHUNK}
            tail = f"{dtype} gradients{'' if aligned else ', not aligned'}"
            types = {**_WHERE, "partial_ptr": "*fp32"}
            found.append(_launch(f"squares, {tail}", kernel.squares_kernel, types, walk, TILES["squares"]))
            for teacher, copy in ((True, True), (True, False), (False, False)):
                flags = {"COPIED": tl.bfloat16, "TEACHER": teacher, "COPY": copy}
                name = f"update{' teacher' * teacher}{' copy' * copy}, {tail}"
                types = {**_WHERE, "rows_ptr": "*fp32"}
                found.append(
                    _launch(name, kernel.update_kernel, types, {**walk, **flags}, TILES["update"])
                )  # fmt: skip
    for name, parts in {"": (True, True), " sum": (True, False), " scale": (False, True)}.items():
        flags = {"M": 3, "BLOCK_M": 4, "SUM": parts[0], "SCALE": parts[1], "CLIP": True, "FLAG": True}
        found.append(_launch(f"factors{name}", kernel.factors_kernel, _FACTORS, flags, FACTORS))
    return found


def _launch(name: str, function: Any, types: dict[str, str], flags: dict[str, Any], tile: dict) -> Launch:
    blocks = {key: value for key, value in tile.items() if key != "num_warps"}
    return Launch(f"optim {name}", function, types, {**flags, **blocks}, num_warps=tile["num_warps"])
