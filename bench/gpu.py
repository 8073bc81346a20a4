"""What a GPU makes of aqqua, beside its peers, in one run of eight minutes at most.

    python bench/gpu.py                            all ops, results under bench/results/<device>/
    python bench/gpu.py --ops attention optim      some of them

First the ceilings of this GPU: a copy's GB/s, a bfloat16 product's TFLOP/s. Then op after op, each in a
process of its own with its share of the time: what each backend computes is compared with the eager one (a
backend that errs is named and not timed), then all are timed in turn, forward, and forward and backward
together. What does not fit is written down as not run; a process that outlives its share, or dies, is ended
and named.

One JSON line per case, written as soon as it is known, so a run that is cut short keeps what it has. The
tables of bench/README.md are made from these files by bench/report.py.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "kernels"), str(HERE / "data"), str(HERE.parent)]

from clock import Call, time_in_turn  # noqa: E402
from measure import RESULTS, machine  # noqa: E402

# Share of the time of each op's cases, in order of worth; the whole step last, as it costs most to compile.
SHARES = {
    "prototype_loss": 0.15,
    "attention": 0.24,
    "residual_norm": 0.12,
    "render": 0.08,
    "optim": 0.08,
    "embed": 0.05,
    "segment": 0.04,
    "activation": 0.04,
    "step": 0.2,
}
GRACE_S = 20.0  # that a process may take beyond its share: to import, to compile, to end a case
PEERS = ("torch", "triton", "xformers", "flash-attn", "liger-kernel", "nvidia-dali-cuda130")
GEMM_SIDE = 8192
COPY_BYTES = 2**32


def main() -> None:
    options = _options()
    if not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py: needs a CUDA device, got none; run it on a GPU host")
    start = time.monotonic()
    about, limits = environment(), ceilings()
    torch.cuda.empty_cache()
    folder = options.out / about["device"].lower().replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{about['date'].replace(':', '')}-{about['commit'][:12]}-{int(time.time())}.jsonl"
    path.write_text(json.dumps({"kind": "environment", **about, **limits}) + "\n", encoding="utf-8")
    print(f"{about['device']}: copy {limits['copy_gb_s']} GB/s, product {limits['bf16_tflop_s']} TFLOP/s")
    for op in options.ops:
        share = SHARES[op] / sum(SHARES[name] for name in options.ops)
        seconds = min(share * options.budget_s, options.budget_s - (time.monotonic() - start))
        if problem := run_op(op, seconds, limits, path):
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": "not run", "op": op, "why": problem}) + "\n")
            print(f"{op}: not run: {problem}", flush=True)
    print(f"{time.monotonic() - start:.0f} s, written to {path}")


def run_op(op: str, seconds: float, limits: Mapping[str, float], path: Path) -> str:
    """The rows of an op, appended to the file by a process of its own; what went wrong, or nothing."""
    if seconds < GRACE_S / 2:
        return "no time was left"
    words = [sys.executable, str(HERE / "gpu_op.py"), op, str(seconds), json.dumps(limits), str(path)]
    try:
        done = subprocess.run(words, timeout=seconds + GRACE_S)
    except subprocess.TimeoutExpired:
        return f"ended after {seconds + GRACE_S:.0f} s: a case took longer than the share of the op"
    return f"its process ended with {done.returncode}" if done.returncode else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ops", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--budget-s", type=float, default=420.0, help="of all cases together")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
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


if __name__ == "__main__":
    main()
