"""One op on a GPU: what each backend of each case computes, how long it takes, how much memory.

Run by bench/gpu.py, in a process of its own: what hangs, or leaves the GPU in an error, ends with it.
"""

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "kernels"), str(HERE / "data"), str(HERE.parent)]

from case import Case  # noqa: E402
from clock import Call, Timing, describe, time_in_turn  # noqa: E402

YARDSTICKS = ("eager", "reference")  # what the others are compared with
# Of a backend's outputs beside the eager one's, ‖a − b‖ / ‖b‖. Both round: bfloat16 has 8 bits, and what is
# a sum of thousands of rounded products (a gradient of weights) keeps about 7.
LARGEST_ERROR = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 3e-2}
H200_TFLOP_S = 989  # of bfloat16 without sparsity. Source: NVIDIA H100 and H200 data sheets


def main() -> None:
    """bench/gpu_op.py OP SECONDS CEILINGS FILE: append the rows of an op to a file."""
    op, seconds, limits, path = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    with Path(path).open("a", encoding="utf-8") as file:
        for row in rows_of(op, end, json.loads(limits)):
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(in_words(row), flush=True)


def rows_of(op: str, end: float, limits: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """A row of each case of an op, while time is left."""
    try:
        cases = importlib.import_module(op).cases()
    except Exception as error:  # one op that cannot be set up must not cost the others
        yield {"kind": "not run", "op": op, "why": describe(error)}
        return
    while True:
        if time.monotonic() > end:
            yield {"kind": "not run", "op": op, "why": "the op's share of the time was used up"}
            return
        try:
            case = next(cases, None)
        except Exception as error:
            yield {"kind": "not run", "op": op, "why": describe(error)}
            return
        if case is None:
            return
        try:
            yield {"kind": "case", "op": op, **row_of(case, end, limits)}
        except Exception as error:
            yield {"kind": "not run", "op": op, "why": f"{case.name}: {describe(error)}"}
        del case
        torch.cuda.empty_cache()


def row_of(case: Case, end: float, limits: Mapping[str, float]) -> dict[str, Any]:
    """What a case's backends compute and how long they take."""
    row: dict[str, Any] = {"case": case.name, "not_run": dict(case.not_run)}
    for side, calls, moved, flops in (
        ("forward", case.forward, case.forward_bytes, case.forward_flops),
        ("both", case.both, case.both_bytes, case.both_flops),
    ):
        errors, wrong = compare(calls, case.computes_in)
        timings, failed = time_in_turn(
            {name: call for name, call in calls.items() if name not in {*wrong, *case.untimed}},
            hide_host=not case.host_counts,
            budget_s=max(2.0, min(8.0, (end - time.monotonic()) / 2)),
        )
        row["not_run"] |= {f"{name} ({side})": why for name, why in {**wrong, **failed}.items()}
        row[side] = {
            name: {
                **timing.as_dict(),
                **_of_ceilings(timing, moved, flops, limits),
                "error": errors.get(name),
            }
            for name, timing in timings.items()
        }
    return row


def compare(
    calls: Mapping[str, Call], computes_in: torch.dtype | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Largest ‖a − b‖ / ‖b‖ of a backend's outputs beside the eager one's, and the backends that err.

    Each is called once: those that move something have moved it equally often.

    Args:
        computes_in: the type they round to on the way, where outputs have a wider one.
    """
    errors: dict[str, float] = {}
    wrong: dict[str, str] = {}
    yardstick = next((name for name in YARDSTICKS if name in calls), "")
    if not yardstick:
        return errors, wrong
    try:
        want = [part.clone() for part in _outputs(calls[yardstick])]
    except Exception as error:
        return errors, dict.fromkeys(calls, f"{yardstick}, the yardstick: {describe(error)}")
    for name in [name for name in calls if name != yardstick]:
        try:
            pairs = list(zip(_outputs(calls[name]), want, strict=True))
        except Exception as error:
            wrong[name] = describe(error)
            continue
        kinds = {part.dtype for pair in pairs for part in pair} | ({computes_in} if computes_in else set())
        bound = max(LARGEST_ERROR.get(kind, 0.0) for kind in kinds)
        found = [_error(*pair) for pair in pairs]
        errors[name] = max(found, key=lambda error: (math.isnan(error), error))
        if not errors[name] <= bound:  # a NaN is wrong, too
            wrong[name] = f"wrong: error {errors[name]:.2g} beside {yardstick}, at most {bound:g} is allowed"
    return errors, wrong


def _outputs(call: Callable[[], object]) -> list[Tensor]:
    made = call()
    parts = made if isinstance(made, tuple | list) else [made]
    return [part.detach() for part in parts if isinstance(part, Tensor)]


def _error(found: Tensor, want: Tensor) -> float:
    found, want = found.double(), want.double()
    return float((found - want).norm() / want.norm().clamp(min=1e-30))


def _of_ceilings(timing: Timing, moved: int, flops: int, limits: Mapping[str, float]) -> dict[str, float]:
    """What must be moved and computed, per second, as shares of what this GPU can."""
    found = {}
    if moved:
        found["copy_share"] = round(moved / timing.median_ms / 1e6 / limits["copy_gb_s"], 4)
    if flops:
        rate = flops / timing.median_ms / 1e9
        found["product_share"] = round(rate / limits["bf16_tflop_s"], 4)
        found["tflop_s"] = round(rate, 1)
        found["mfu_of_989"] = round(rate / H200_TFLOP_S, 4)
    return found


def in_words(row: Mapping[str, Any]) -> str:
    """A row for whoever watches."""
    if row["kind"] == "not run":
        return f"{row['op']}: not run: {row['why']}"
    lines = [row["case"]]
    for side in ("forward", "both"):
        times = [f"{name} {timing['median_ms']:.3f}" for name, timing in row[side].items()]
        lines.append(f"  {side} ms: " + ", ".join(times))
    lines += [f"  not run: {name}: {why}" for name, why in row["not_run"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
