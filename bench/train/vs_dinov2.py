"""Training images per second: native resolution, packed, beside DINOv2's recipe at fixed 224 and 98 px.

    python bench/train/vs_dinov2.py --dataset DATASET [--size tiny] [--steps 12]

The same images, backbone, heads, losses and optimizer, by the same code; only what an image becomes differs:

- native: 2 global and 8 local views at the image's own resolution, whole patches, at most 256 and 64 of them.
- fixed: DINOv2's (`views.augmentation=dinov2`): the same crops stretched to 256 and 49 patches (224 and
  98 px at patch 14). All sequences of a pack are then of two lengths, which the backbone takes as dense
  batches, as DINOv2 does.

Whole training steps (read, plan, render, teacher, targets, student, backward, optimizer), in turns, after two
of each that do not count. Tokens are the student's and the teacher's. Memory is the peak of a process of its
own. Appends a JSON line to bench/results/<device>/vs_dinov2.jsonl.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from measure import RESULTS, machine

from aqqua.plan.pack import GLOBALS, Pack
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import rates_at, take_step

WARM_STEPS = 2
NAMES = ("native", "fixed")


@dataclass
class Tally:
    """What one contender has done."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # student's and teacher's

    def as_dict(self) -> dict[str, float]:
        """Rates over all steps; by the processor's clock too, which holds on a busy machine."""
        images, tokens = sum(self.images), sum(self.tokens)
        return {
            "images_per_s": images / sum(self.wall_s),
            "images_per_processor_s": images / sum(self.processor_s),
            "tokens_per_s": tokens / sum(self.wall_s),
            "tokens_per_image": tokens / images,
            "images": images,
            "steps": len(self.images),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "base", "large"))
    parser.add_argument("--patch-px", type=int, default=14)
    parser.add_argument("--pack-tokens", type=int, default=16384)
    parser.add_argument("--prototypes", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=12, help="of each, that count")
    given = parser.parse_args()
    measured = in_turns(given)
    peaks = {name: peak_bytes(name, given) for name in NAMES}
    row = {
        "benchmark": "vs_dinov2", "dataset": given.dataset.name, "size": given.size,
        "patch_px": given.patch_px, "prototypes": given.prototypes,
        **{name: measured[name] | {"peak_bytes": peaks[name]} for name in NAMES},
        **ratios(measured), **machine("torch"), "device": device_name(), "threads": torch.get_num_threads(),
    }  # fmt: skip
    folder = RESULTS.parent / (device_name() if torch.cuda.is_available() else "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "vs_dinov2.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    sys.stdout.write(f"{json.dumps(row, indent=1)}\n")


def ratios(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """How much faster, against how many fewer tokens."""
    native, fixed = (measured[name] for name in NAMES)
    speed_up = native["images_per_processor_s"] / fixed["images_per_processor_s"]
    if torch.cuda.is_available():  # whose work the processor's clock does not see
        speed_up = native["images_per_s"] / fixed["images_per_s"]
    token_ratio = fixed["tokens_per_image"] / native["tokens_per_image"]
    wall = native["images_per_s"] / fixed["images_per_s"]
    return {
        "speed_up": speed_up, "speed_up_wall": wall, "token_ratio": token_ratio,
        "share": speed_up / token_ratio,
    }  # fmt: skip


def config_of(name: str, given: argparse.Namespace, folder: Path) -> PretrainConfig:
    """The run of a contender."""
    views = {"augmentation": "dinov2" if name == "fixed" else "plankton", "locals": 8}
    return PretrainConfig.model_validate(
        {
            "run": str(folder / name),
            "data": {"path": str(given.dataset), "lanes": 1, "pack_tokens": given.pack_tokens},
            "views": views,
            "model": {"size": given.size, "patch_px": given.patch_px, "drop_path": 0.0},
            "objective": {"head": {"prototypes": given.prototypes}},
            "train": {"images": 1_000_000, "tensorboard": False},
        }
    )


@contextmanager
def stepping(name: str, given: argparse.Namespace) -> Iterator[tuple[Run, Iterator[Any]]]:
    """A run that is never saved, and its data."""
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config_of(name, given, Path(folder)))
        with closing(run.feeder.steps(run.lanes, run.step)) as steps:
            yield run, steps


def one_step(run: Run, steps: Iterator[Any], tally: Tally) -> None:
    """Take a step and count it, from the wait for its data to weights that have moved."""
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    data = next(steps)
    outcome = take_step(run, data, rates_at(run))
    run.advance(data, outcome.n_images)
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    tally.wall_s.append(time.perf_counter() - wall)
    tally.processor_s.append(time.process_time() - processor)
    tally.images.append(outcome.n_images)
    tally.tokens.append(sum(tokens_of(pack) for pack in data.packs))


def tokens_of(pack: Pack) -> int:
    """Of the student's views and the teacher's."""
    tokens_V = pack.patches_V + pack.prefix_tokens
    return int(tokens_V.sum() + tokens_V[: GLOBALS * pack.n_images].sum())


def in_turns(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Both contenders in one process, a step of the one and a step of the other."""
    tallies = {name: Tally() for name in NAMES}
    with stepping("native", given) as native, stepping("fixed", given) as fixed:
        for step in range(WARM_STEPS + given.steps):
            for name, (run, steps) in zip(NAMES, (native, fixed), strict=True):
                one_step(run, steps, tallies[name] if step >= WARM_STEPS else Tally())
                sys.stderr.write(f"\r{name} step {step + 1} of {WARM_STEPS + given.steps}   ")
    sys.stderr.write("\n")
    return {name: tally.as_dict() for name, tally in tallies.items()}


def peak_bytes(name: str, given: argparse.Namespace) -> int:
    """Of a process that takes a few steps: the GPU's memory, or all of the process on a CPU."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (name, given))


def _peak(name: str, given: argparse.Namespace) -> int:
    with stepping(name, given) as (run, steps):
        for _ in range(WARM_STEPS + 1):
            one_step(run, steps, Tally())
        if run.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage keeps the parent's peak
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def device_name() -> str:
    """Of the GPU, or cpu."""
    return torch.cuda.get_device_name().replace(" ", "-") if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
