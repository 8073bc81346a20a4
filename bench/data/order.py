"""What the order of three billion images costs: time to the first pack, memory, packs per second.

    python bench/data/order.py --packs 100000

The dataset is made up: the sizes of a block are drawn from its number, so nothing is stored and no file
is read. The script itself is the fresh process: it loads what planning needs and nothing else until
everything is measured. It walks some lanes of a run in turn, pack after pack, and notes its resident
memory on the way; then it asks for a window far away, and walks all blocks of an epoch over all lanes.

Rates are per second of processor time of one thread. Appends a JSON line to bench/results/cpu/order.jsonl.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from made import MadeBlocks
from measure import append_result, machine

from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.order import MOST_WINDOW_BLOCKS, lane_blocks
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig

FAR_WINDOW = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=3_000_000_000)
    parser.add_argument("--packs", type=int, default=100_000, help="at most so many")
    parser.add_argument("--seconds", type=float, default=3600, help="stop walking after so long")
    parser.add_argument("--every", type=int, default=100, help="packs between two looks at the memory")
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument(
        "--served", type=int, default=8, help="lanes walked, as by one of lanes / served ranks"
    )
    parser.add_argument("--window-blocks", type=int, default=4)
    parser.add_argument("--pack-tokens", type=int, default=16384)
    parser.add_argument("--patch-px", type=int, default=16)
    arguments = parser.parse_args()

    at_start = memory_mb()
    dataset = MadeBlocks(arguments.images)
    fields = ("lanes", "window_blocks", "pack_tokens")
    config = LaneConfig(**{name: getattr(arguments, name) for name in fields})
    lanes = [Lane(dataset, config, lane, seed=0) for lane in range(arguments.served)]
    walked = walk([packer(lane, arguments.patch_px) for lane in lanes], arguments)
    result = {
        "resident_mb_at_start": at_start["VmRSS"],
        **walked,
        **far_window(lanes[0], arguments.patch_px),
        "blocks_once_an_epoch": blocks_once(dataset.blocks, config.lanes),
    }
    report(arguments, result)


def packer(lane: Lane, patch_px: int) -> Packer:
    return Packer(lane, patch_px=patch_px, prefix_tokens=5, views=ViewConfig(), masks=MaskConfig())


def walk(packers: list[Packer], arguments: argparse.Namespace) -> dict[str, float]:
    """Pack after pack, the lanes in turn: rates and resident memory."""
    states = [LaneState()] * len(packers)
    samples: list[tuple[int, float]] = []
    first_s: dict[str, float] = {}
    images, fill, packs, began = 0, 0.0, 0, time.thread_time()
    end = time.perf_counter() + arguments.seconds
    while packs < arguments.packs and time.perf_counter() < end:
        number = packs % len(packers)
        pack, states[number] = packers[number].next_pack(states[number])
        packs += 1
        images += pack.n_images
        fill += pack.fill
        if packs == 1:
            first_s = {
                "first_pack_s_after_process_start": round(since_process_start_s(), 3),
                "first_pack_processor_s": round(time.process_time(), 3),  # imports included
            }
        if packs % arguments.every == 0 or packs == 1:
            samples.append((packs, memory_mb()["VmRSS"]))
    cpu_s = time.thread_time() - began
    # The first windows of all lanes fill the cache of planned windows; flat is what comes after.
    settled = np.array(samples[len(samples) // 4 :])
    slope = np.polyfit(settled[:, 0], settled[:, 1], 1)[0] if len(settled) > 2 else float("nan")
    return {
        **first_s,
        "packs": packs,
        "last_window": states[0].window,
        "images_per_pack": round(images / packs, 1),
        "fill": round(fill / packs, 4),
        "packs_per_core_s": round(packs / cpu_s, 1),
        "images_per_core_s": round(images / cpu_s),
        "resident_mb_first_pack": samples[0][1],
        "resident_mb_settled": round(float(settled[0, 1]), 1),
        "resident_mb_end": round(float(settled[-1, 1]), 1),
        "resident_mb_peak": memory_mb()["VmHWM"],
        "resident_mb_slope_per_1000_packs": round(float(slope) * 1000, 4),
    }


def far_window(lane: Lane, patch_px: int) -> dict[str, float]:
    """Milliseconds for a window and for a pack at the beginning and far away, best of 10 in turn."""
    best: dict[str, float] = {}
    for _ in range(10):
        for where, window in (("first", 0), ("far", FAR_WINDOW)):
            fresh = packer(lane, patch_px)  # with nothing planned yet
            for what, call in (
                ("window", lambda window=window: lane.window(window)),
                ("pack", lambda window=window, fresh=fresh: fresh.next_pack(LaneState(window))),
            ):
                start = time.thread_time()
                call()
                name = f"{where}_{what}_ms"
                best[name] = min(best.get(name, float("inf")), (time.thread_time() - start) * 1000)
    return {name: round(value, 3) for name, value in best.items()}


def blocks_once(blocks: int, lanes: int) -> bool:
    """Whether every block comes exactly once in the second epoch, over all lanes."""
    seen = np.zeros(blocks, np.uint8)
    per_window = lanes * MOST_WINDOW_BLOCKS
    for lane in range(lanes):
        # The lane's blocks are the same whatever the window; large windows are fewer calls.
        for window in range(blocks // per_window, 2 * blocks // per_window + 1):
            block_B, epoch_B = lane_blocks(
                blocks=blocks,
                lanes=lanes,
                window_blocks=MOST_WINDOW_BLOCKS,
                lane=lane,
                window=window,
                seed=0,
            )
            np.add.at(seen, block_B[epoch_B == 1], 1)
    return bool((seen == 1).all())


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now (VmRSS) and at most so far (VmHWM); Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: round(int(value.split()[0]) * 1024 / 1e6, 1) for name, value in values.items()}


def since_process_start_s() -> float:
    """Seconds since the process began, its imports included; in steps of a clock tick, 10 ms."""
    after_name = Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    started_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def report(arguments: argparse.Namespace, result: dict[str, float]) -> None:
    for name, value in result.items():
        print(f"{name:34}{value!s:>14}")
    options = {name: value for name, value in vars(arguments).items() if name not in ("seconds", "every")}
    append_result("order", {**machine(), **options, **result})


if __name__ == "__main__":
    main()
