"""Every kernel of segment as training and evaluation launch it, for offline compilation."""

from collections.abc import Iterator
from typing import Any

from aqqua.kernels.offline import Launch
from aqqua.kernels.segment import kernel, koleo_kernel
from aqqua.kernels.segment.op import KOLEO_TILE, TILE, attentive_tile, koleo_row

WIDTHS = (192, 384, 768, 1024, 1536)  # tiny, small, base, large, giant
HEADS = ((16, 64), (8, 128), (1, 768))  # of the attentive pool: of the backbone's width, or one of all of it


def launches() -> list[Launch]:
    """Where the width of the model is not named, the code is the same for every width."""
    found = []
    for dtype in ("bf16", "fp32"):
        found += list(_views(dtype))
        for heads, width in HEADS:
            found += _attentive(dtype, heads, width)
        found.append(_koleo_forward(dtype))
        found += [_koleo_backward(dtype, width) for width in WIDTHS]
    return found


def _launch(name: str, function: Any, types: dict[str, str], constants: dict[str, Any]) -> Launch:
    """`constants` also hold num_warps; pointers in `types` are marked by a star."""
    fixed = {key: value for key, value in constants.items() if key != "num_warps"}
    return Launch(name, function, types, fixed, num_warps=constants["num_warps"])


def _views(dtype: str) -> Iterator[Launch]:
    x, width = f"*{dtype}", {"D": 1024, **TILE}
    types = {"x_ptr": x, "offsets_ptr": "*i32", "y_ptr": "*fp32", "prefix": "i32"}
    yield _launch(f"mean_pool forward, {dtype}", kernel.mean_forward_kernel, types, width)
    types = {"dy_ptr": "*fp32", "offsets_ptr": "*i32", "dx_ptr": x, "prefix": "i32"}
    yield _launch(f"mean_pool backward, {dtype}", kernel.mean_backward_kernel, types, width)
    types = {"x_ptr": x, "offsets_ptr": "*i32", "prefix_ptr": x, "patches_ptr": x, "R": "i32"}
    for backward in (False, True):
        for patches in (False, True):
            flags = {"BACKWARD": backward, "PREFIX": True, "PATCHES": patches}
            name = f"{'split_prefix' if patches else 'cls_gather'} {'backward' if backward else 'forward'}"
            yield _launch(f"{name}, {dtype}", kernel.split_kernel, types, {**width, **flags})


def _attentive(dtype: str, heads: int, width: int) -> list[Launch]:
    sizes = {"H": heads, "E": width, **attentive_tile(width)}
    tail = f"{heads} heads of {width}, {dtype}"
    given = {"values_ptr": f"*{dtype}", "scores_ptr": "*fp32"}
    forward = {**given, "offsets_ptr": "*i32", "y_ptr": "*fp32", "lse_ptr": "*fp32", "prefix": "i32"}
    backward = {
        "dy_ptr": "*fp32", "y_ptr": "*fp32", **given, "lse_ptr": "*fp32", "offsets_ptr": "*i32",
        "dvalues_ptr": f"*{dtype}", "dscores_ptr": "*fp32", "prefix": "i32",
    }  # fmt: skip
    return [
        _launch(f"attentive_pool forward, {tail}", kernel.attentive_forward_kernel, forward, sizes),
        _launch(f"attentive_pool backward, {tail}", kernel.attentive_backward_kernel, backward, sizes),
    ]


_MEASURED = {"nearest_ptr": "*i32", "distance_ptr": "*fp32", "norm_ptr": "*fp32"}
_SCALARS = {"images": "i32", "eps": "fp32"}


def _koleo_forward(dtype: str) -> Launch:
    given = {"features_ptr": f"*{dtype}", "image_ptr": "*i64", "loss_ptr": "*fp32"}
    sizes = {"D": 1024, "UPCAST": False, **KOLEO_TILE}
    types = {**given, **_MEASURED, **_SCALARS}
    return _launch(f"koleo forward, {dtype}", koleo_kernel.forward_kernel, types, sizes)


def _koleo_backward(dtype: str, width: int) -> Launch:
    given = {"dloss_ptr": "*fp32", "features_ptr": f"*{dtype}", "dfeatures_ptr": f"*{dtype}"}
    sizes = {"D": width, **koleo_row(width)}
    types = {**given, **_MEASURED, **_SCALARS}
    return _launch(f"koleo backward, D {width}, {dtype}", koleo_kernel.backward_kernel, types, sizes)
