"""What the gate measures: ours beside a peer, in seconds, on made-up images and a small dataset of them.

Each case stands for the target of its name in bench/targets.toml and gives two calls that do the same work,
or as much. Nothing but aqqua and what it needs is used, so that any machine can measure them all.
Test: tests/test_bench_gate.py.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "data"))

import pack
import read
import render
from made import MadeBlocks
from sklearn.cluster import KMeans

from aqqua.curate.clusters import nearest
from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.kernels.attention import tiles
from aqqua.plan import masks, order, views
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.render import native
from aqqua.sample import write_sample
from aqqua.store.read import Dataset
from aqqua.train import data
from aqqua.train.batch import Shape

IMAGES = 700  # of the sample: more than a block
PATCH_PX, PREFIX_TOKENS = 16, 5
PACK_TOKENS, PACKS, STEPS = 4096, 16, 16
TIMES = 25
Call = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """Two ways to do the same."""

    ours: Call
    peer: Call
    clock: Clock = time.thread_time  # process_time where ours has threads


@contextmanager
def made_dataset() -> Iterator[Dataset]:
    """Procedural images of five instruments, ingested; gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder, "ocean"), IMAGES)
        ingest_paths([str(Path(folder, "ocean"))], Path(folder, "dataset"), ReadOptions(), workers=1)
        yield Dataset.open(Path(folder, "dataset"))


def plan_views(_dataset: Dataset) -> Case:
    """2 global and 8 local views of 2,048 images, from their sizes, in windows that allocate little."""
    sizes = MadeBlocks(2048)
    blocks = [sizes.sizes(block) for block in range(sizes.blocks)]
    windows = [block.take(part) for block in blocks for part in np.array_split(np.arange(len(block)), 4)]

    def plan(by: Callable[..., views.Views]) -> None:
        for window in windows:
            by(window, np.zeros(len(window), np.uint64), 0, PATCH_PX, ViewConfig())

    return Case(lambda: plan(views.plan_views), lambda: plan(views.plan_views_reference))


def plan_masks(_dataset: Dataset) -> Case:
    """The patches that iBOT hides in 16 packs."""
    lane = _made_lane()
    inputs = []
    for one in pack.plan_packs(lane, PATCH_PX, PACKS).packs:
        n_global = GLOBALS * one.n_images
        visits = one.visit_I[one.image_V[:n_global]]
        inputs.append((one.grid_V2, one.key_V[:n_global], visits, lane.seed, masks.MaskConfig()))
    return Case(
        lambda: [masks.plan_masks(*given) for given in inputs],
        lambda: [masks.plan_masks_reference(*given) for given in inputs],
    )


def plan_packs(_dataset: Dataset) -> Case:
    """Order, views, fill and masks of 16 packs."""
    lane = _made_lane()

    def by_references() -> object:
        with pack.references():
            return pack.plan_packs(lane, PATCH_PX, PACKS)

    return Case(lambda: pack.plan_packs(lane, PATCH_PX, PACKS), by_references)


def order_images(_dataset: Dataset) -> Case:
    """The order of the images of a window of four blocks."""
    given = (np.arange(4), np.zeros(4, np.int64), np.full(4, 512))
    where = {"lane": 1, "window": 3, "seed": 0}
    return Case(
        lambda: order.mix_window(*given, **where), lambda: order.mix_window_reference(*given, **where)
    )


def arrange_tiles(_dataset: Dataset) -> Case:
    """Tiles of 64 rows for 3,000 sequences; ours so often that it can be timed."""
    lengths_V = np.random.default_rng(0).integers(1, 64, 3000).astype(np.int32)
    return Case(
        lambda: [tiles.arrange(lengths_V, (64,)) for _ in range(TIMES)],
        lambda: tiles.arrange_reference(lengths_V, (64,)),
    )


def render_views(dataset: Dataset) -> Case:
    """Patch rows of a pack of procedural plankton; the same maps by Pillow, without blur or noise."""
    given = (*_first_pack(dataset), PATCH_PX)
    return Case(lambda: native.render_native(*given, 1, threads=1), lambda: render.pillow_warps(*given))


def read_blocks(dataset: Dataset) -> Case:
    """Every block once, by the reader of training and by bare pyarrow, both in this thread."""
    blocks = list(range(dataset.blocks))
    return Case(lambda: read.read_ahead(dataset, blocks, 0), lambda: read.read_bare(dataset, blocks))


def load_packs(dataset: Dataset) -> Case:
    """From the dataset to patch rows, with all threads; the same crops by Pillow, from pixels in memory."""
    config = data.DataConfig(path=dataset.path, lanes=1, pack_tokens=PACK_TOKENS)
    shape = Shape(PATCH_PX, 1, PREFIX_TOKENS, 12, 0.1)
    packed, pixels = _first_pack(dataset)
    crops = list(render.crops(packed, PATCH_PX))

    def feed() -> None:
        feeder = data.Feeder(dataset, config, ViewConfig(), masks.MaskConfig(), shape, seed=0)
        steps = feeder.steps({0: LaneState()}, 0)
        for _ in range(STEPS):
            next(steps)
        steps.close()

    return Case(feed, lambda: [render.pillow_crops(pixels, crops) for _ in range(STEPS)], time.process_time)


def nearest_centroids(_dataset: Dataset) -> Case:
    """The nearest of 1,000 centroids for 4,096 vectors of 64 numbers."""
    draw = np.random.default_rng(0)
    x_ID, c_KD = (draw.normal(size=(rows, 64)).astype(np.float32) for rows in (4096, 1000))
    fitted = KMeans(len(c_KD), init=c_KD, n_init=1, max_iter=1).fit(c_KD)
    fitted.cluster_centers_ = c_KD
    find = nearest.Nearest(torch.from_numpy(c_KD))
    return Case(lambda: find(torch.from_numpy(x_ID)), lambda: fitted.predict(x_ID))


def _made_lane() -> Lane:
    sizes = pack.SizesInMemory(MadeBlocks(4096))
    return Lane(sizes, LaneConfig(pack_tokens=PACK_TOKENS), lane=0, seed=0)


def _first_pack(dataset: Dataset) -> tuple[Pack, list[np.ndarray]]:
    return render.first_pack(dataset.path, PATCH_PX, PACK_TOKENS)


# By their names in bench/targets.toml.
CASES: dict[str, Callable[[Dataset], Case]] = {
    "plan_views": plan_views,
    "plan_masks": plan_masks,
    "plan_packs": plan_packs,
    "order_images": order_images,
    "arrange_tiles": arrange_tiles,
    "render_views": render_views,
    "read_blocks": read_blocks,
    "load_packs": load_packs,
    "nearest_centroids": nearest_centroids,
}
NEED_AVX = {"render_views"}  # whose gate is of such machines
