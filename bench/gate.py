"""The gate: does what is fast still beat its peers by as much as it did? Seconds, on any CPU.

    python bench/gate.py                           all cases; the exit code is 1 if one is refused
    python bench/gate.py --cases plan_views read_blocks
    python bench/gate.py --record                  and a row in bench/results/cpu/gate.jsonl

Each case of bench/gate_cases.py is ours beside a peer in this process: they take turns, each one's best round
counts, by the processor's clock, and the ratio of the two is held against `gate` of bench/targets.toml. So
neither the machine nor its other work decides. A ratio under its gate is measured twice more, with all rounds
counted together, before it is refused.

Why not pytest-benchmark: it times each function by itself, one after the other, and compares with times of
another run; of two functions in turns it knows nothing, and noise would decide.
Test: tests/test_bench_gate.py.
"""

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "data"))

import torch
from gate_cases import CASES, NEED_AVX, Case, made_dataset
from measure import append_result, best_by_clocks, machine
from targets import Target, load_targets, number

from aqqua import _core

ATTEMPTS = 3  # before a case is refused
SECONDS = 1.0  # of an attempt


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, say, refuse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a case")
    parser.add_argument("--record", action="store_true", help="append a row to the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    targets, ratios = load_targets(), {}
    with made_dataset() as dataset:
        for name in options.cases:
            if name in NEED_AVX and _core.render_simd()[0] == "plain":
                print(f"{name:20}not run: its gate is of machines with AVX")
                continue
            ratios[name] = ratio = measure(CASES[name](dataset), targets[name], options.seconds)
            print(line_of(name, targets[name], ratio), flush=True)
    if options.record:
        about = machine("torch", "pillow", "pyarrow", "scikit-learn")
        rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
        append_result("gate", {**about, "simd": _core.render_simd()[0], "ratios": rounded})
    if refused := [refusal(name, targets[name], r) for name, r in ratios.items() if under(targets[name], r)]:
        raise SystemExit("\n".join(refused))


def measure(case: Case, target: Target, seconds: float = SECONDS) -> float:
    """How many times the peer's least time is ours; under the gate only after ATTEMPTS."""
    best = {"ours": float("inf"), "peer": float("inf")}
    for _ in range(ATTEMPTS):
        found = best_by_clocks({"ours": case.ours, "peer": case.peer}, seconds, [case.clock])
        best = {name: min(least, *found[name]) for name, least in best.items()}
        if not under(target, best["peer"] / best["ours"]):
            break
    return best["peer"] / best["ours"]


def under(target: Target, ratio: float) -> bool:
    """Whether a change with this ratio is refused."""
    return target.judge(ratio) == "under the gate"


def line_of(name: str, target: Target, ratio: float) -> str:
    """What is printed of a case."""
    gate = "no gate" if target.gate is None else f"gate {number(target.gate)}"
    return f"{name:20}{number(ratio):>8}  {gate:12}{target.unit}: {target.what}"


def refusal(name: str, target: Target, ratio: float) -> str:
    """Why a change is refused, and what to do."""
    assert target.gate is not None, name
    return (
        f"gate: {name} ({target.what}) must be at least {number(target.gate)} {target.unit}, got "
        f"{number(ratio)}; find what made it slower, or change its gate in bench/targets.toml and say why"
    )


if __name__ == "__main__":
    main()
