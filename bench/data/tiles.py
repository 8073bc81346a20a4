"""How well attention tiles are filled, and how many sequences one core arranges in a second.

    python bench/data/tiles.py --dataset DATASET

Sequences are the views of real images as packs have them (patch 16 and 8, one prefix token), and of the
assumed law of sides that other measurements use (log-normal with a heavy tail, patch 14): a pack of
5,000, and millions. Beside `arrange` stand next fit, first fit on a segment tree (as seqpacker's), online
best fit with a list for each room, and the same with the longest first. They are compiled by numba where
it is installed (`pip install numba`; it is no dependency); otherwise they run in Python, on at most
20,000 sequences, and only their fill is to be compared. Before a number is printed every arrangement
must be sound, and `arrange` on some sequences equal to its specification.

Million sequences per second of processor time of one thread, best round, rounds interleaved. Appends a
JSON line to bench/results/cpu/tiles.jsonl.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import append_result, best_of_rounds, machine

from aqqua.kernels.attention.tiles import arrange, arrange_reference
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import GLOBALS
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views
from aqqua.store.read import Dataset

try:
    from numba import njit as compiled  # type: ignore[import-not-found, unused-ignore]
except ModuleNotFoundError:
    COMPILED = False

    def compiled(function: Callable) -> Callable:
        """Leaves the function as it is."""
        return function

else:
    COMPILED = True

VIEWS = ViewConfig()
PREFIX_TOKENS = 1
PACK = 5000  # sequences
TILE_ROWS = (64, 128)
CLASSES = ((64,), (128,), (32, 64), (16, 32, 64), (16, 32, 64, 128))
MOST_INTERPRETED = 20_000  # sequences
TIMED = 100_000  # sequences, at least, in one timing of what is fast


@compiled
def next_fit(lengths_J: np.ndarray, rows: int) -> np.ndarray:
    tile_J = np.empty(len(lengths_J), np.int32)
    tile, room = -1, 0
    for j in range(len(lengths_J)):
        if lengths_J[j] > room:
            tile, room = tile + 1, rows
        tile_J[j] = tile
        room -= lengths_J[j]
    return tile_J


@compiled
def first_fit(lengths_J: np.ndarray, rows: int) -> np.ndarray:
    """The first tile with room, found by going down a tree of the largest room of each subtree."""
    leaves = 1
    while leaves < len(lengths_J):
        leaves *= 2
    largest = np.full(2 * leaves, rows, np.int32)
    tile_J = np.empty(len(lengths_J), np.int32)
    for j in range(len(lengths_J)):
        node = 1
        while node < leaves:
            node *= 2
            if largest[node] < lengths_J[j]:
                node += 1
        tile_J[j] = node - leaves
        largest[node] -= lengths_J[j]
        node //= 2
        while node:
            largest[node] = max(largest[2 * node], largest[2 * node + 1])
            node //= 2
    return tile_J


@compiled
def best_fit(lengths_J: np.ndarray, rows: int) -> np.ndarray:
    """The tile with the least sufficient room; tiles of one room form a linked list."""
    newest = np.full(rows + 1, -1, np.int32)  # by room
    older = np.full(len(lengths_J), -1, np.int32)  # by tile
    tile_J = np.empty(len(lengths_J), np.int32)
    tiles = 0
    for j in range(len(lengths_J)):
        room = int(lengths_J[j])
        while room < rows and newest[room] < 0:
            room += 1
        tile = newest[room]
        if tile < 0:
            tile = tiles
            tiles += 1
        else:
            newest[room] = older[tile]
        tile_J[j] = tile
        room -= lengths_J[j]
        older[tile] = newest[room]
        newest[room] = tile
    return tile_J


def best_fit_decreasing(lengths_J: np.ndarray, rows: int) -> np.ndarray:
    order = np.argsort(-lengths_J, kind="stable")
    tile_J = np.empty(len(lengths_J), np.int32)
    tile_J[order] = best_fit(lengths_J[order], rows)
    return tile_J


PEERS = {
    "next_fit": next_fit,
    "first_fit_tree": first_fit,
    "best_fit": best_fit,
    "best_fit_decreasing": best_fit_decreasing,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--sequences", type=int, default=4_000_000, help="of the large inputs")
    parser.add_argument("--seconds", type=float, default=2, help="of timing, for each input and size of tile")
    arguments = parser.parse_args()
    if not COMPILED:
        print("numba is not installed: peers run in Python, on fewer sequences; compare their fill only")

    dataset = Dataset.open(arguments.dataset)
    inputs = {}
    for patch_px in (16, 8):
        inputs[f"real_patch{patch_px}_pack"] = pack_lengths(dataset, patch_px)
        inputs[f"real_patch{patch_px}"] = window_lengths(dataset, patch_px, arguments.sequences)
    law = law_lengths(arguments.sequences)
    inputs |= {"law_patch14_pack": law[:PACK], "law_patch14": law}
    results = {name: measure(name, lengths_V, arguments.seconds) for name, lengths_V in inputs.items()}
    about = {"dataset": arguments.dataset.name, "peers_compiled": COMPILED}
    append_result("tiles", {**machine(), **about, "inputs": rounded(results)})


def pack_lengths(dataset: Dataset, patch_px: int) -> np.ndarray:
    """PACK sequences of the first pack of a run."""
    lane = Lane(dataset, LaneConfig(pack_tokens=1 << 18), lane=0, seed=0)
    packer = Packer(lane, patch_px=patch_px, prefix_tokens=PREFIX_TOKENS, views=VIEWS, masks=MaskConfig())
    pack, _ = packer.next_pack(LaneState())
    by_image = pack.patches_V.reshape(VIEWS.views, pack.n_images).T  # whole images: 2 global, 8 local
    return (by_image.ravel()[:PACK] + PREFIX_TOKENS).astype(np.int32)


def window_lengths(dataset: Dataset, patch_px: int, count: int) -> np.ndarray:
    """Sequences of the windows of a run, as many epochs as it takes."""
    lane = Lane(dataset, LaneConfig(lanes=1), lane=0, seed=0)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        window = lane.window(len(parts))
        views = plan_views(window.sizes, window.visit_E, 0, patch_px, VIEWS)
        parts.append((views.patches_IS().ravel() + PREFIX_TOKENS).astype(np.int32))
    return np.concatenate(parts)[:count]


def law_lengths(count: int) -> np.ndarray:
    """Views of images of the assumed law: side log-normal, median 80 px and σ 0.55, aspect σ 0.35, 3 % drawn
    out by a Pareto(1.8) tail; unrotated crops at patch 14, at most 1,024 tokens."""
    rng = np.random.default_rng(0)
    images = -(-count // VIEWS.views)
    tail = np.where(rng.random(images) < 0.03, 1 + rng.pareto(1.8, images), 1)
    side = 80 * np.exp(rng.normal(0, 0.55, images)) * tail
    stretch = np.exp(rng.normal(0, 0.35, images) / 2)
    areas = [VIEWS.global_area] * GLOBALS + [VIEWS.local_area] * VIEWS.locals
    share = np.stack([np.sqrt(rng.uniform(*area, images)) for area in areas], axis=1)
    rows, columns = (
        np.maximum(np.rint(share * s[:, None] / 14), 1) for s in (side * stretch, side / stretch)
    )
    return (np.minimum(rows * columns, 1024).ravel()[:count] + PREFIX_TOKENS).astype(np.int32)


def measure(name: str, lengths_V: np.ndarray, budget_s: float) -> dict[str, Any]:
    """Fill and speed of every algorithm, and what classes of tiles do to the work."""
    check_against_reference(lengths_V[:400])
    found: dict[str, Any] = {"sequences": len(lengths_V), "mean_tokens": round(float(lengths_V.mean()), 2)}
    for rows in TILE_ROWS:
        for chain, row in race(lengths_V[lengths_V <= rows], rows, budget_s).items():
            found[f"{chain}_{rows}"] = row
            show(name, f"{chain} {rows}", row)
    for tile_rows in CLASSES:
        tiles = arrange(lengths_V, tile_rows)
        row = {"longer": len(tiles.long_W), "fill": tiles.fill, "useful_work": tiles.useful_work}
        found["classes_" + "_".join(map(str, tile_rows))] = row
        show(name, f"classes {tile_rows}", row)
    return found


def race(lengths_J: np.ndarray, rows: int, budget_s: float) -> dict[str, dict[str, float]]:
    """Fill and speed of every algorithm on sequences of at most `rows`.

    What is fast is repeated until TIMED sequences have passed: a pack takes 50 µs, too little to time.
    """
    some = lengths_J if COMPILED else lengths_J[:MOST_INTERPRETED]
    fills = {"arrange": checked_fill(lengths_J, arrange(lengths_J, (rows,)).tile_V, rows)}
    fills |= {peer: checked_fill(some, pack(some, rows), rows) for peer, pack in PEERS.items()}
    counts = {chain: len(lengths_J if chain == "arrange" else some) for chain in fills}
    repeats = {
        chain: max(TIMED // n, 1) if chain == "arrange" or COMPILED else 1 for chain, n in counts.items()
    }

    def timed(chain: str) -> Callable[[], None]:
        def run() -> None:
            for _ in range(repeats[chain]):
                if chain == "arrange":
                    arrange(lengths_J, (rows,))
                else:
                    PEERS[chain](some, rows)

        return run

    seconds = best_of_rounds({chain: timed(chain) for chain in fills}, budget_s)
    return {
        chain: {
            "sequences": counts[chain],
            "fill": fills[chain],
            "m_per_core_s": counts[chain] * repeats[chain] / best / 1e6,
        }
        for chain, best in seconds.items()
    }


def show(name: str, chain: str, row: dict[str, float]) -> None:
    values = "".join(f"{key:>14} {value:<9.4g}" for key, value in row.items())
    print(f"{name:20}{chain:>32}{values}")


def checked_fill(lengths_J: np.ndarray, tile_J: np.ndarray, rows: int) -> float:
    """Share of the tiles' rows in use, after a look that no tile is overfull."""
    used = np.bincount(tile_J, weights=lengths_J)
    if used.max() > rows or used.min() < 1:
        raise SystemExit(f"tiles: every tile must hold 1 to {rows} rows, got {used.min()} to {used.max()}")
    return float(lengths_J.sum(dtype=np.int64) / (len(used) * rows))


def check_against_reference(lengths_V: np.ndarray) -> None:
    for tile_rows in CLASSES:
        fast, slow = arrange(lengths_V, tile_rows), arrange_reference(lengths_V, tile_rows)
        for field in dataclasses.fields(fast):
            if not np.array_equal(getattr(fast, field.name), getattr(slow, field.name)):
                raise SystemExit(f"tiles: {field.name} must equal the specification's; no timing")


def rounded(values: Any) -> Any:
    """Four figures after the point, in dictionaries of dictionaries."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    return round(values, 4) if isinstance(values, float) else values


if __name__ == "__main__":
    main()
