"""What a GPU makes of aqqua, beside its peers, in one run of eight minutes at most.

    python bench/gpu.py                            all ops, results under bench/results/<device>/
    python bench/gpu.py --ops attention optim      some of them

First the ceilings of this GPU: a copy's GB/s, a bfloat16 product's TFLOP/s. Then case after case, those of
the ops of most worth first: what each backend computes is compared with the eager one (a backend that errs
is named and not timed), then all are timed in turn, forward, and forward and backward together. Each op has
a share of the time; what does not fit in it is written down as not run.

One JSON line per case, written as soon as it is known, so a run that is cut short keeps what it has. The
tables of bench/README.md are made from these files by bench/report.py.
"""

import argparse
import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "kernels"), str(HERE / "data"), str(HERE.parent)]

from case import Case  # noqa: E402
from clock import Call, Timing, describe, time_in_turn  # noqa: E402
from measure import machine  # noqa: E402

# Share of the time of each op's cases, in order of worth.
SHARES = {
    "step": 0.22,
    "prototype_loss": 0.14,
    "attention": 0.26,
    "residual_norm": 0.1,
    "render": 0.08,
    "optim": 0.07,
    "embed": 0.05,
    "segment": 0.04,
    "activation": 0.04,
}
YARDSTICKS = ("eager", "reference")  # what the others are compared with
# Of a backend's outputs beside the eager one's, ‖a − b‖ / ‖b‖. Both round: bfloat16 has 8 bits, and what is
# a sum of thousands of rounded products (a gradient of weights) keeps about 7.
LARGEST_ERROR = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 3e-2}
PEERS = ("torch", "triton", "xformers", "flash-attn", "liger-kernel", "nvidia-dali-cuda130")
GEMM_SIDE = 8192
COPY_BYTES = 2**32


def main() -> None:
    options = _options()
    if not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py: needs a CUDA device, got none; run it on a GPU host")
    start = time.monotonic()
    about = environment()
    folder = options.out / about["device"].lower().replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{about['date'].replace(':', '')}-{about['commit'][:12]}.jsonl"
    with path.open("x", encoding="utf-8") as file:

        def write(row: Mapping[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(_line(row), flush=True)  # noqa: T201

        limits = ceilings()
        write({"kind": "environment", **about, **limits})
        for op in options.ops:
            share = SHARES[op] / sum(SHARES[name] for name in options.ops)
            end = min(time.monotonic() + share * options.budget_s, start + options.budget_s)
            for row in rows_of(op, end, limits):
                write(row)
    print(f"{time.monotonic() - start:.0f} s, written to {path}")  # noqa: T201


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ops", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--budget-s", type=float, default=440.0, help="of all cases together")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


def environment() -> dict[str, Any]:
    """The machine, and the versions that matter."""
    chip = torch.cuda.get_device_properties(0)
    versions = {}
    for name in PEERS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        **machine(),
        "device": chip.name,
        "multiprocessors": chip.multi_processor_count,
        "memory_gib": round(chip.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "versions": versions,
    }


def ceilings() -> dict[str, float]:
    """What this GPU reaches at best: bytes read and written by a copy, operations of a product."""
    source = torch.empty(COPY_BYTES // 2, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    a, b = (torch.randn(GEMM_SIDE, GEMM_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)
    calls: dict[str, Call] = {
        "copy": lambda: target.copy_(source),
        "product": lambda: torch.mm(a, b, out=product),
    }
    timings, failed = time_in_turn(calls)
    if failed:
        raise RuntimeError(f"ceilings: a copy and a product must run, got {failed}; mend the installation")
    return {
        "copy_gb_s": round(COPY_BYTES / timings["copy"].median_ms / 1e6, 1),
        "bf16_tflop_s": round(2 * GEMM_SIDE**3 / timings["product"].median_ms / 1e9, 1),
    }


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
        yield {"kind": "case", "op": op, **row_of(case, end, limits)}
        del case
        torch.cuda.empty_cache()


def row_of(case: Case, end: float, limits: Mapping[str, float]) -> dict[str, Any]:
    """What a case's backends compute and how long they take."""
    row: dict[str, Any] = {"case": case.name, "not_run": dict(case.not_run)}
    for side, calls, moved, flops in (
        ("forward", case.forward, case.forward_bytes, case.forward_flops),
        ("both", case.both, case.both_bytes, case.both_flops),
    ):
        errors, wrong = compare(calls)
        timings, failed = time_in_turn(
            {name: call for name, call in calls.items() if name not in wrong},
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


def compare(calls: Mapping[str, Call]) -> tuple[dict[str, float], dict[str, str]]:
    """Largest ‖a − b‖ / ‖b‖ of a backend's outputs beside the eager one's, and the backends that err.

    Each is called once: those that move something have moved it equally often.
    """
    errors: dict[str, float] = {}
    wrong: dict[str, str] = {}
    yardstick = next((name for name in YARDSTICKS if name in calls), None)
    want = [part.clone() for part in _outputs(calls[yardstick])] if yardstick else []
    for name in calls.keys() - {yardstick}:
        try:
            pairs = list(zip(_outputs(calls[name]), want, strict=True))
        except Exception as error:
            wrong[name] = describe(error)
            continue
        bound = max(LARGEST_ERROR.get(part.dtype, 0.0) for pair in pairs for part in pair)
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
        found["product_share"] = round(flops / timing.median_ms / 1e9 / limits["bf16_tflop_s"], 4)
    return found


def _line(row: Mapping[str, Any]) -> str:
    if row["kind"] == "environment":
        return f"{row['device']}: copy {row['copy_gb_s']} GB/s, product {row['bf16_tflop_s']} TFLOP/s"
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
