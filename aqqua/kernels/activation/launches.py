"""Every kernel of activation as training launches it, for offline compilation."""

from aqqua.kernels.activation import kernel
from aqqua.kernels.activation.op import TILE
from aqqua.kernels.offline import Launch

WIDTH = 4096  # large and giant; the code is the same for every multiple of the block


def launches() -> list[Launch]:
    """Forward, and backward without and with the activation given again, in bf16 and float32."""
    found = []
    for gated in (False, True):
        for dtype in ("bf16", "fp32"):
            found += [_launch(WIDTH, gated, dtype, again) for again in (None, False, True)]
    return found


def _launch(width: int, gated: bool, dtype: str, again: bool | None) -> Launch:
    """`again` of the backward kernel; None: the forward kernel."""
    direction = {None: "forward", False: "backward", True: "backward with activation"}[again]
    pointers = ("a_ptr", "h_ptr") if again is None else ("a_ptr", "dh_ptr", "da_ptr", "h_ptr")
    constants = {"F": width, "ROWS": TILE["ROWS"], "BLOCK_F": TILE["BLOCK_F"], "GATED": gated}
    return Launch(
        name=f"{'swiglu' if gated else 'gelu'} {direction}, F {width}, {dtype}",
        kernel=kernel.forward_kernel if again is None else kernel.backward_kernel,
        signature={**{name: f"*{dtype}" for name in pointers}, "T": "i32"},
        constants=constants if again is None else {**constants, "AGAIN": again},
        num_warps=TILE["num_warps"],
    )
