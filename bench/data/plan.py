"""How many views one core plans from image sizes: C++ beside its NumPy specification.

    python bench/data/plan.py --dataset DATASET

A chain plans one window after the other, as a lane does, and keeps the last three. Before a number
is printed both must give the same bits for every window.

Views per second of processor time of one thread, best round of each, rounds interleaved: the
ratios of one run hold on a busy machine too. Appends a JSON line to bench/results/cpu/plan.jsonl.
"""

import argparse
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
from measure import append_result, best_of_rounds, machine, print_rates

from aqqua.plan.lanes import LaneConfig
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views, plan_views_reference
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

KEPT_WINDOWS = 3  # as aqqua.plan.pack.Packer keeps them
PlanViews = Callable[[Sizes, np.ndarray, int, int, ViewConfig], Views]
CHAINS: dict[str, PlanViews] = {"native": plan_views, "reference": plan_views_reference}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--patch-px", type=int, default=16)
    parser.add_argument("--window-blocks", type=int, default=LaneConfig().window_blocks)
    parser.add_argument("--seconds", type=float, default=10, help="of timing, all chains together")
    arguments = parser.parse_args()

    windows = windows_of(Dataset.open(arguments.dataset), arguments.window_blocks)
    differing = [i for i, window in enumerate(windows) if not agree(window, arguments.patch_px)]
    if differing:
        raise SystemExit(
            f"plan: native must give the reference's bits, windows {differing} differ; no timing"
        )
    chains = {name: chain_of(planner, windows, arguments.patch_px) for name, planner in CHAINS.items()}
    report(arguments, windows, best_of_rounds(chains, arguments.seconds))


def windows_of(dataset: Dataset, window_blocks: int) -> list[Sizes]:
    """The sizes of all blocks, so many together as a lane mixes."""
    blocks = [dataset.sizes(number) for number in range(dataset.blocks)]
    return [
        Sizes.concatenate(blocks[first : first + window_blocks])
        for first in range(0, len(blocks), window_blocks)
    ]


def planned(planner: PlanViews, window: Sizes, patch_px: int) -> Views:
    return planner(window, np.zeros(len(window), np.uint64), 0, patch_px, ViewConfig())


def agree(window: Sizes, patch_px: int) -> bool:
    plans = [planned(planner, window, patch_px) for planner in CHAINS.values()]
    bits = [[getattr(plan, field.name).tobytes() for field in fields(Views)] for plan in plans]
    return all(other == bits[0] for other in bits)


def chain_of(planner: PlanViews, windows: list[Sizes], patch_px: int) -> Callable[[], object]:
    kept: deque[Views] = deque(maxlen=KEPT_WINDOWS)

    def plan_all() -> None:
        for window in windows:
            kept.append(planned(planner, window, patch_px))

    return plan_all


def report(arguments: argparse.Namespace, windows: list[Sizes], seconds: dict[str, float]) -> None:
    images = sum(len(window) for window in windows)
    views = images * ViewConfig().views
    rows = {
        name: {
            "views_per_core_s": round(views / best),
            "ms_per_window": round(best / len(windows) * 1e3, 3),
            "times_reference": round(seconds["reference"] / best, 2),
        }
        for name, best in seconds.items()
    }
    print_rates(rows, ("views/s/core", "ms per window", "x reference"))
    append_result(
        "plan",
        {
            **machine(),
            "dataset": arguments.dataset.name,
            "patch_px": arguments.patch_px,
            "window_blocks": arguments.window_blocks,
            "images": images,
            "views": views,
            **rows,
        },
    )


if __name__ == "__main__":
    main()
