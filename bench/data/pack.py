"""How long it takes to plan a pack: order, views, fill and masks, from sizes held in memory.

    python bench/data/pack.py --dataset DATASET

The first packs of a run, planned one after the other with the C++ parts and with their Python
references; both must give the same packs, bit for bit, before a number is printed. A few packs share
a window of images, whose views are planned when the first of them is: `mean_ms` spreads that cost over
the packs, `worst_ms` is the pack that pays it. `fill` and `masks` are these parts alone, per pack.

Milliseconds of processor time of one thread. A round plans all packs; of each pack its best round
counts, rounds interleaved: the ratios of one run hold on a busy machine too. Appends a JSON line for
each size of pack to bench/results/cpu/pack.jsonl.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
from measure import append_result, best_of_rounds, machine, print_rates

from aqqua.plan import packer
from aqqua.plan.fill import fill, fill_reference
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig, plan_masks, plan_masks_reference
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views_reference
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

PREFIX_TOKENS = 5
REFERENCES = {  # by their names in the packer
    "fill": fill_reference,
    "plan_masks": plan_masks_reference,
    "plan_views": plan_views_reference,
}


class SizesInMemory:
    """The sizes of a dataset as a reader that reads ahead hands them over: no file is touched."""

    def __init__(self, dataset: Dataset) -> None:
        self.blocks = dataset.blocks
        self._sizes = [dataset.sizes(block) for block in range(dataset.blocks)]

    def sizes(self, block: int) -> Sizes:
        return self._sizes[block]


@dataclasses.dataclass(frozen=True)
class Planned:
    """Some packs of a lane, the state before each, and the processor time each took."""

    packs: list[Pack]
    states: list[LaneState]
    seconds: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--patch-px", type=int, default=16)
    parser.add_argument("--pack-tokens", type=int, nargs="+", default=[16384, 65536])
    parser.add_argument("--packs", type=int, default=32, help="planned in a row")
    parser.add_argument("--seconds", type=float, default=15, help="of timing, for each size of pack")
    arguments = parser.parse_args()
    sizes = SizesInMemory(Dataset.open(arguments.dataset))
    for pack_tokens in arguments.pack_tokens:
        lane = Lane(sizes, LaneConfig(pack_tokens=pack_tokens), lane=0, seed=0)
        measure(lane, arguments)


def measure(lane: Lane, arguments: argparse.Namespace) -> None:
    def plan(served_by: AbstractContextManager[object]) -> Planned:
        with served_by:
            return plan_packs(lane, arguments.patch_px, arguments.packs)

    planned = plan(nullcontext())
    require_same(planned.packs, plan(references()).packs)
    rounds: dict[str, list[list[float]]] = {"native": [], "reference": []}
    seconds = best_of_rounds(
        {
            "native": lambda: rounds["native"].append(plan(nullcontext()).seconds),
            "reference": lambda: rounds["reference"].append(plan(references()).seconds),
            **parts_alone(lane, planned),
        },
        arguments.seconds,
    )
    whole = {name: np.min(rows, axis=0) * 1e3 for name, rows in rounds.items()}
    parts = {name: value / arguments.packs * 1e3 for name, value in seconds.items() if name not in rounds}
    report(arguments, lane, planned.packs, whole, parts)


def references() -> AbstractContextManager[object]:
    return mock.patch.multiple(packer, **REFERENCES)


def plan_packs(lane: Lane, patch_px: int, count: int) -> Planned:
    """The first packs of a lane; nothing is planned beforehand."""
    maker = Packer(
        lane, patch_px=patch_px, prefix_tokens=PREFIX_TOKENS, views=ViewConfig(), masks=MaskConfig()
    )
    planned = Planned([], [], [])
    state = LaneState()
    for _ in range(count):
        planned.states.append(state)
        start = time.thread_time()
        pack, state = maker.next_pack(state)
        planned.seconds.append(time.thread_time() - start)
        planned.packs.append(pack)
    return planned


def require_same(packs: list[Pack], others: list[Pack]) -> None:
    for number, (pack, other) in enumerate(zip(packs, others, strict=True)):
        for field in dataclasses.fields(Pack):
            values, expected = getattr(pack, field.name), getattr(other, field.name)
            same = field.name == "sizes" or np.asarray(values).tobytes() == np.asarray(expected).tobytes()
            if not same:
                raise SystemExit(
                    f"pack: native and reference must be equal, got another {field.name} in pack {number}; "
                    "no timing"
                )


def parts_alone(lane: Lane, planned: Planned) -> dict[str, Callable[[], object]]:
    """Fill and masks of all packs, from windows and views planned beforehand."""
    tokens_E = np.random.default_rng(0).permutation(np.concatenate([image_tokens(p) for p in planned.packs]))
    windows = np.array_split(tokens_E, len(tokens_E) // (512 * lane.config.window_blocks) + 1)

    def fill_all(served_by: Callable) -> None:
        state = LaneState()
        for _ in planned.packs:
            state = served_by(lambda n: windows[n % len(windows)], state, lane.config.pack_tokens).after

    def mask_all(served_by: Callable) -> None:
        for pack in planned.packs:
            n_global = GLOBALS * pack.n_images
            visits = pack.visit_I[pack.image_V[:n_global]]
            served_by(pack.grid_V2, pack.key_V[:n_global], visits, lane.seed, MaskConfig())

    return {
        "fill": lambda: fill_all(fill),
        "fill_reference": lambda: fill_all(fill_reference),
        "masks": lambda: mask_all(plan_masks),
        "masks_reference": lambda: mask_all(plan_masks_reference),
    }


def image_tokens(pack: Pack) -> np.ndarray:
    """Student tokens of all views of each image."""
    return (pack.patches_V + pack.prefix_tokens).reshape(pack.views_per_image, -1).sum(axis=0)


def summary(ms: np.ndarray, images: int) -> dict[str, float]:
    """Of all packs, given the milliseconds of each and the images in all."""
    return {
        "mean_ms": round(float(ms.mean()), 3),
        "median_ms": round(float(np.median(ms)), 3),
        "best_ms": round(float(ms.min()), 3),
        "worst_ms": round(float(ms.max()), 3),
        "packs_per_core_s": round(1e3 / float(ms.mean()), 1),
        "images_per_core_s": round(1e3 * images / float(ms.sum())),
    }


def report(
    arguments: argparse.Namespace,
    lane: Lane,
    packs: list[Pack],
    whole_ms: dict[str, np.ndarray],
    parts_ms: dict[str, float],
) -> None:
    images = sum(pack.n_images for pack in packs)
    rows = {name: summary(ms, images) for name, ms in whole_ms.items()}
    print(f"packs of {lane.config.pack_tokens} tokens")
    print_rates(rows, list(rows["native"]))
    print("  ".join(f"{name} {ms:.3f} ms" for name, ms in parts_ms.items()), flush=True)
    append_result(
        "pack",
        {
            **machine(),
            "dataset": arguments.dataset.name,
            "pack_tokens": lane.config.pack_tokens,
            "patch_px": arguments.patch_px,
            "packs": len(packs),
            "images_per_pack": round(images / len(packs), 1),
            "views_per_pack": round(sum(pack.n_views for pack in packs) / len(packs), 1),
            "fill": round(float(np.mean([pack.fill for pack in packs])), 5),
            "least_fill": round(min(pack.fill for pack in packs), 5),
            **rows,
            **{f"{name}_ms": round(ms, 4) for name, ms in parts_ms.items()},
        },
    )


if __name__ == "__main__":
    main()
