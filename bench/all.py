"""Every benchmark that this machine can run, one after the other; then the gate and bench/README.md.

    python bench/all.py --quick              a few minutes; rows go to build/bench, to be looked at
    python bench/all.py --dataset isiis      in full: rows are appended to bench/results

Without --dataset images are made up, which says nothing of real ones. Each benchmark is a process of its own
with a budget; what this machine lacks (a GPU, DALI, image files) and what fails or takes too long is named,
and costs no other. The exit code is 1 if one failed, if the gate refuses, or if a figure of a GPU lies under
its gate. Not part of it: bench/benchmark.py (public sets, an hour) and what trains (bench/train/curve.py).
Test: tests/test_bench_all.py.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from targets import load_targets, newest, number

from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.sample import write_sample

HERE = Path(__file__).parent
QUICK_RESULTS = HERE.parent / "build" / "bench"
SAMPLE_IMAGES = 2500  # where no dataset is given


@dataclass(frozen=True)
class Given:
    """What the user has."""

    dataset: Path
    input: Path | None  # image files: a zip or a folder
    data: Path | None  # the public sets, with a MANIFEST.md
    work: Path  # empty, gone afterwards


@dataclass(frozen=True)
class Bench:
    """A script and what it is given."""

    script: str
    arguments: Callable[[Given], Sequence[str]]
    quick: Sequence[str] | None  # further arguments of the quick form; None: left out of it
    budget_s: float  # of the full form, then it is ended
    needs: Callable[[Given], str] = lambda _: ""  # what is missing here, if anything


def of_dataset(given: Given) -> Sequence[str]:
    return ["--dataset", str(given.dataset)]


def of_input(given: Given) -> Sequence[str]:
    return ["--input", str(given.input)]


def needs_input(given: Given) -> str:
    return "" if given.input else "image files (--input)"


def needs_dali(given: Given) -> str:
    return needs_input(given) or ("" if find_spec("nvidia.dali") else "NVIDIA DALI")


def needs_data(given: Given) -> str:
    return "" if given.data else "the public sets (--data)"


def needs_gpu(_given: Given) -> str:
    return "" if torch.cuda.is_available() else "a GPU"


def nothing(_given: Given) -> Sequence[str]:
    return ()


BENCHES = (
    Bench("gate.py", lambda _: ["--record"], (), 300),
    Bench("data/plan.py", of_dataset, ("--seconds", "3"), 120),
    Bench("data/pack.py", of_dataset, ("--seconds", "3"), 240),
    Bench("data/order.py", lambda _: ["--packs", "100000", "--seconds", "300"], ("--packs", "2000"), 600),
    Bench("data/tiles.py", of_dataset, ("--seconds", "0.1", "--sequences", "50000"), 600),
    Bench("data/render.py", of_dataset, ("--seconds", "4"), 240),
    Bench("data/render.py", lambda g: [*of_dataset(g), "--channels", "3"], None, 240),
    Bench("data/read.py", of_dataset, ("--seconds", "5"), 240),
    Bench("data/end_to_end.py", of_dataset, None, 900),
    Bench("data/ingest.py", of_input, None, 600, needs_input),
    Bench("data/encoded.py", of_input, None, 600, needs_input),
    Bench("data/dali.py", of_input, None, 900, needs_dali),
    Bench("data/duplicates.py", of_dataset, None, 900),
    Bench("data/predictions.py", nothing, ("--rows", "20000"), 600),
    Bench("data/downstream.py", nothing, None, 1200),
    Bench("curate.py", nothing, None, 900),
    Bench(
        "curate_balance.py",
        lambda g: ["--data", str(g.data), "--folder", str(g.work / "balance")],
        None,
        3600,
        needs_data,
    ),
    Bench("train/vs_dinov2.py", of_dataset, ("--steps", "2", "--pack-tokens", "4096"), 1800),
    Bench("gpu.py", nothing, None, 900, needs_gpu),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run them, say how each ended, make the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short forms, and rows that are not kept")
    parser.add_argument("--dataset", type=Path, help="folder made by `aqqua ingest`; by default made up")
    parser.add_argument("--input", type=Path, help="zip or folder of image files")
    parser.add_argument("--data", type=Path, help="folder of the public sets")
    parser.add_argument("--only", nargs="+", help="scripts, as in data/plan.py")
    options = parser.parse_args(arguments)
    chosen = [bench for bench in BENCHES if options.only is None or bench.script in options.only]
    results = QUICK_RESULTS if options.quick else HERE / "results"
    with tempfile.TemporaryDirectory() as folder:
        dataset = options.dataset or made_dataset(Path(folder))
        given = Given(dataset, options.input, options.data, Path(folder))
        failed = [bench.script for bench in chosen if not run(bench, given, options.quick, results)]
    if not options.quick:
        subprocess.run([sys.executable, str(HERE / "report.py")], check=True)
    if problems := [*(f"{script} failed" for script in failed), *under_gates(results)]:
        raise SystemExit("bench: " + "; ".join(problems))


def made_dataset(folder: Path) -> Path:
    """Procedural plankton."""
    write_sample(folder / "ocean", SAMPLE_IMAGES)
    ingest_paths([str(folder / "ocean")], folder / "made", ReadOptions(), workers=1)
    return folder / "made"


def run(bench: Bench, given: Given, quick: bool, results: Path) -> bool:
    """Whether it did not fail; what this machine cannot run has not."""
    missing = "left out of the quick form" if quick and bench.quick is None else bench.needs(given)
    if missing:
        print(f"{bench.script:24}not run: {missing}", flush=True)
        return True
    words = [sys.executable, str(HERE / bench.script), *bench.arguments(given), *(bench.quick or ()) * quick]
    # By one thread each, as they time one core; those that use more say so to PyTorch themselves.
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "AQQUA_BENCH_RESULTS": str(results)}
    print(f"{bench.script:24}...", flush=True)
    start = time.monotonic()
    try:
        code = subprocess.run(words, env=environment, timeout=bench.budget_s).returncode
        how = "done" if code == 0 else f"failed, exit code {code}"
    except subprocess.TimeoutExpired:
        code, how = 1, f"ended: it must take at most {bench.budget_s:.0f} s"
    print(f"{bench.script:24}{how} after {time.monotonic() - start:.0f} s", flush=True)
    return code == 0


def under_gates(results: Path) -> Iterator[str]:
    """Figures of GPUs that a change is refused for; those of CPUs are measured by the gate itself."""
    for name, target in load_targets().items():
        state, point = newest(target, results)
        if target.device == "gpu" and state == "under the gate" and point and target.gate:
            yield f"{name} must be at least {number(target.gate)} {target.unit}, got {number(point.value)}"


if __name__ == "__main__":
    main()
