"""What `aqqua plan` predicts beside what real steps take on this machine: memory and time.

    python bench/train/plan_check.py --dataset DATASET [--steps 8] [--only "small, 4k"]

For each of some configs: memory by formula beside the peak of what tensors hold, and beside the peak of a
process of its own (above what it held after a step of the smallest model, which loads all libraries, with
malloc told to give large blocks back: what it keeps otherwise is no tensor's); seconds of a step from the
pace of the steps before (`aqqua plan CONFIG --measure`), and from the pace of the first config of the list,
which is another model. Bars: memory within 10 %, time within 15 %. Prints a table; writes nothing.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from aqqua.cost.measure import Measured, measure
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import rates_at, take_step

PEAK_STEPS = 3
RETURNED_BYTES = "65536"  # blocks of at least so many bytes go back to the system when they are freed
Rooms = dict[str, dict[str, Any]]
CONFIGS: dict[str, Rooms] = {
    "tiny, 4k": {},
    "tiny, 16k": {"data": {"pack_tokens": 16_384}},
    "tiny, two packs, 14 px": {"data": {"lanes": 2}, "model": {"patch_px": 14}},
    "tiny, drop-path, 8k": {"data": {"pack_tokens": 8192}, "model": {"drop_path": 0.3}},
    "tiny, DINOv2's squares": {"views": {"augmentation": "dinov2"}, "model": {"patch_px": 14}},
    "tiny, 16,384 prototypes": {"objective": {"head": {"prototypes": 16_384}}},
    "small, 4k": {"model": {"size": "small"}},
    "small, swiglu, no registers": {"model": {"size": "small", "ffn": "swiglu", "registers": 0}},
}
SMALLEST: Rooms = {"model": {"width": 64, "heads": 1, "layers": 1}, "data": {"pack_tokens": 2048}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--steps", type=int, default=8, help="of each, half of them predicted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[*CONFIGS], default=[*CONFIGS])
    given = parser.parse_args()
    for line in lines(given):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def lines(given: argparse.Namespace) -> Iterator[str]:
    """The table, a row as soon as it is measured."""
    yield f"{'config':28}  {'GB':>6} {'tensors':>7} {'process':>7}  {'ms':>7} {'own':>6} {'first':>6}"
    first: Measured | None = None
    for name in given.only:
        config = config_of(CONFIGS[name], given)
        found: Measured = alone(measure, config, given.steps)
        with blocks_given_back():
            process = alone(peak_bytes, config, config_of(SMALLEST, given))
        first = first or found
        held, step = found.tensor_bytes, found.whole_step_s
        elsewhere = sum(first.pace.predicted(found.taken).values()) / found.steps
        yield (
            f"{name:28}  {held.measured / 1e9:6.3f} {held.ratio:7.3f} {held.predicted / process:7.3f}  "
            f"{1e3 * step.measured:7.0f} {step.ratio:6.3f} {elsewhere / step.measured:6.3f}"
        )


def config_of(rooms: Rooms, given: argparse.Namespace) -> PretrainConfig:
    """A run of a small model on the dataset, changed by `rooms`."""
    settings: Rooms = {
        "data": {"path": str(given.dataset), "lanes": 1, "pack_tokens": 4096},
        "model": {"size": "tiny", "patch_px": 8, "drop_path": 0.0},
        "objective": {"head": {"prototypes": 4096}},
        "train": {"images": 1_000_000, "tensorboard": False, "threads": given.threads},
    }
    merged = {name: settings.get(name, {}) | rooms.get(name, {}) for name in settings | rooms}
    return PretrainConfig.model_validate({"run": "none", **merged})


def alone(do: Any, *arguments: Any) -> Any:
    """In a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(do, arguments)


@contextmanager
def blocks_given_back() -> Iterator[None]:
    """Processes that begin within hold what tensors need, not what malloc keeps; they are slower."""
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    os.environ.update(dict.fromkeys(names, RETURNED_BYTES))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def peak_bytes(config: PretrainConfig, smallest: PretrainConfig) -> float:
    """Of a process that trains, above what it held after a step of the smallest model."""
    take(smallest, 1)
    before = _status_bytes("VmRSS")
    take(config, PEAK_STEPS)
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return _status_bytes("VmHWM") - before


def take(config: PretrainConfig, steps: int) -> None:
    """Some steps of a run that is gone then."""
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config.model_copy(update={"run": Path(folder) / "run"}))
        with closing(run.feeder.steps(run.lanes, run.step)) as coming:
            for _ in range(steps):
                data = next(coming)
                run.advance(data, take_step(run, data, rates_at(run)).n_images)


def _status_bytes(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) * 1024.0


if __name__ == "__main__":
    main()
