r"""Training images per second: native resolution, packed, beside DINOv2's recipe at fixed 224 and 98 px.

    python bench/train/vs_dinov2.py --dataset DATASET [--size tiny] [--steps 12]            # speed
    python bench/train/vs_dinov2.py --dataset DATASET --suite isiis --minutes 6 --seeds 2 \
        --width 64 --layers 3 --prototypes 512 --pack-tokens 8192    # and accuracy: ten minutes on two cores
    python bench/train/vs_dinov2.py --dataset DATASET --size small base large               # on a GPU

The same images, backbone, heads, losses and optimizer, by the same code; only what an image becomes differs:

- native: 2 global and 8 local views at the image's own resolution, whole patches, at most 256 and 64 of them.
- fixed: DINOv2's (`views.augmentation=dinov2`): the same crops stretched to 256 and 49 patches (224 and
  98 px at patch 14). All sequences of a pack are then of two lengths, which the backbone takes as dense
  batches, as DINOv2 does.

Whole training steps (read, plan, render, teacher, targets, student, backward, optimizer), in turns, after two
of each that do not count. Tokens are the student's and the teacher's. Memory is the peak of a process of its
own. With --minutes or --budget-flops also kNN macro-F1 after equal training operations (equal_compute.py).

The bar is a speed-up of at least 0.95 of the ratio of tokens; both and their ratio are printed, and what
fewer operations would say. Appends a JSON line for each size to bench/results/<device>/vs_dinov2.jsonl.
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
from equal_compute import equal_compute
from measure import RESULTS, machine

from aqqua.plan.pack import GLOBALS, Pack
from aqqua.train.heap import keep_freed_memory
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import rates_at, take_step
from aqqua.train.useful import Useful

WARM_STEPS = 2
NAMES = ("native", "fixed")


@dataclass
class Tally:
    """What one contender has done."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # student's and teacher's
    flops: list[float] = field(default_factory=list)  # useful

    def as_dict(self) -> dict[str, float]:
        """Rates over all steps; by the processor's clock too, which holds on a busy machine."""
        images, tokens = sum(self.images), sum(self.tokens)
        return {
            "images_per_s": images / sum(self.wall_s),
            "images_per_processor_s": images / sum(self.processor_s),
            "tokens_per_s": tokens / sum(self.wall_s),
            "tokens_per_image": tokens / images,
            "flops_per_image": sum(self.flops) / images,
            "tflop_per_s": sum(self.flops) / sum(self.wall_s) / 1e12,
            "images": images,
            "steps": len(self.images),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--size", nargs="+", default=["tiny"], choices=("tiny", "small", "base", "large"))
    parser.add_argument("--width", type=int, help="instead of the size's, a multiple of 64: a short form")
    parser.add_argument("--layers", type=int, help="the same")
    parser.add_argument("--patch-px", type=int, default=14)
    parser.add_argument("--pack-tokens", type=int, default=16384)
    parser.add_argument("--prototypes", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=12, help="of each, that count")
    accuracy = parser.add_argument_group("accuracy after equal training operations")
    budget = accuracy.add_mutually_exclusive_group()
    budget.add_argument("--budget-flops", type=float, help="of each training")
    budget.add_argument("--minutes", type=float, help="of all trainings of a size, at the pace just measured")
    accuracy.add_argument("--seeds", type=int, default=1)
    accuracy.add_argument("--suite", help="that came with aqqua (default: every label is a class)")
    accuracy.add_argument("--images-per-step", type=int, default=24)
    accuracy.add_argument("--blocks", type=int, default=8, help="of the dataset, that are judged")
    parser.add_argument("--print-only", action="store_true", help="keep no row: a try on a busy machine")
    given = parser.parse_args()
    for size in given.size:
        given.size = size
        row = measured_row(given)
        if not given.print_only:
            keep(row)
        show(row)


def measured_row(given: argparse.Namespace) -> dict[str, Any]:
    """All of one size."""
    measured = in_turns(given)
    peaks = {name: peak_bytes(name, given) for name in NAMES}
    return {
        "benchmark": "vs_dinov2", "dataset": given.dataset.name, "size": given.size,
        "width": given.width, "layers": given.layers,  # where they are not the size's
        "patch_px": given.patch_px, "prototypes": given.prototypes,
        **{name: measured[name] | {"peak_bytes": peaks[name]} for name in NAMES},
        **ratios(measured), **accuracy_of(given, measured),
        **machine("torch"), "device": device_name(), "threads": torch.get_num_threads(),
    }  # fmt: skip


def accuracy_of(given: argparse.Namespace, measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    """After equal operations; nothing where no budget is given."""
    budget = given.budget_flops
    if given.minutes is not None:
        pace = min(measured[name]["tflop_per_s"] for name in NAMES) * 1e12
        budget = 60 * given.minutes * pace / (given.seeds * len(NAMES))
    if budget is None:
        return {}
    configs = {name: config_of(name, given, Path("none")) for name in NAMES}
    found = equal_compute(
        given.dataset, configs, budget, given.images_per_step, given.seeds, given.suite, given.blocks
    )
    return {"equal_compute": found}


def keep(row: dict[str, Any]) -> None:
    """Beside the earlier ones."""
    folder = RESULTS.parent / (device_name() if torch.cuda.is_available() else "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "vs_dinov2.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def show(row: dict[str, Any]) -> None:
    """All of it, then the headline."""
    sys.stdout.write(f"{json.dumps(row, indent=1)}\n")
    sys.stdout.write(
        f"{row['size']}: speed-up {row['speed_up']:.2f}, {row['token_ratio']:.2f} times fewer tokens: "
        f"{row['share']:.2f} of them (bar 0.95)\n"
    )


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
        "flop_ratio": fixed["flops_per_image"] / native["flops_per_image"],
        "share": speed_up / token_ratio,
    }  # fmt: skip


def config_of(name: str, given: argparse.Namespace, folder: Path) -> PretrainConfig:
    """The run of a contender."""
    shape = {"width": given.width, "heads": given.width // 64} if given.width else {}
    shape |= {"layers": given.layers} if given.layers else {}
    views = {"augmentation": "dinov2" if name == "fixed" else "plankton", "locals": 8}
    return PretrainConfig.model_validate(
        {
            "run": str(folder / name),
            "data": {"path": str(given.dataset), "lanes": 1, "pack_tokens": given.pack_tokens},
            "views": views,
            "model": {"size": given.size, "patch_px": given.patch_px, "drop_path": 0.0, **shape},
            "objective": {"head": {"prototypes": given.prototypes}},
            "train": {"images": 1_000_000, "tensorboard": False},
        }
    )


@contextmanager
def stepping(name: str, given: argparse.Namespace) -> Iterator[tuple[Run, Iterator[Any]]]:
    """A run that is never saved, and its data."""
    if not torch.cuda.is_available():
        keep_freed_memory()  # as `aqqua pretrain` does
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
    tally.flops.append(Useful(run.config.model, run.config.objective).flops(data.packs))
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
    return torch.cuda.get_device_name().lower().replace(" ", "-") if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
