"""What every kernel takes on every GPU: registers, spills, shared memory, compiled without one.

    python bench/kernels/offline.py                                 all, and write bench/results/offline.jsonl
    python bench/kernels/offline.py --architectures 90 --ops optim  some, and print them

One JSON line per launch and architecture, with the commit and Triton's version. Compute capabilities: 80 is
A100, 90 H100 and H200, 100 B200.
tests/kernels/test_offline.py runs this and judges the lines.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)  # its kernels are Python functions, nothing to compile

sys.path.append(str(Path(__file__).parents[1] / "data"))

from measure import commit

from aqqua.kernels.offline import ARCHITECTURES, SHARED_LIMIT, compile_launch, every_launch

TABLE = Path(__file__).parents[1] / "results" / "offline.jsonl"
Task = tuple[str, int, int]  # op, number of its launch, architecture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architectures", type=int, nargs="+", choices=ARCHITECTURES)
    parser.add_argument("--ops", nargs="+", choices=sorted(every_launch()))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    whole = options.architectures is None and options.ops is None
    lines = []
    with ProcessPoolExecutor(options.workers) as pool:
        about = {"commit": commit(), "triton": version("triton")}
        for row in pool.map(measure, tasks(options.architectures or ARCHITECTURES, options.ops)):
            lines.append(json.dumps(row | about))
            print(lines[-1], flush=True)
    if whole:
        TABLE.write_text("\n".join(lines) + "\n")
        print(f"written to {TABLE}", file=sys.stderr)


def tasks(architectures: tuple[int, ...], ops: list[str] | None) -> Iterator[Task]:
    for op, launches in every_launch().items():
        for number, launch in enumerate(launches):
            for architecture in architectures:
                if (ops is None or op in ops) and architecture in launch.architectures:
                    yield op, number, architecture


def measure(task: Task) -> dict[str, object]:
    op, number, architecture = task
    launch = every_launch()[op][number]
    return {
        "op": op,
        "launch": launch.name,
        "architecture": architecture,
        **asdict(compile_launch(launch, architecture)),
        "num_warps": launch.num_warps,
        "num_stages": launch.num_stages,
        "max_spill_bytes": launch.max_spill_bytes,
        "shared_limit_bytes": SHARED_LIMIT[architecture],
    }


if __name__ == "__main__":
    main()
