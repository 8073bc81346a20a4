"""Labelled images of a dataset, packed at native resolution: shuffled and turned to learn from, or plain.

An epoch walks the blocks that hold its images in a drawn order, a window of them at a time, and mixes the
images of a window: memory is bounded, and a block is a fair sample of the dataset already. Every draw is by
(seed, image, epoch), so an epoch is the same on any machine.

Letters: N labelled images, B of a pack, I images of a window.
Test: tests/evaluate/finetune/test_finetune_images.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from aqqua.evaluate.features import Pooling, pack_features, pooled
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.model.vit import VisionTransformer
from aqqua.plan.pack import Pack
from aqqua.plan.philox import Purpose, uniforms
from aqqua.plan.turned import turned_views
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import whole_views
from aqqua.plan.whole import single_view_packs
from aqqua.progress import silent
from aqqua.store.read import Block, Dataset
from aqqua.store.sizes import Sizes

COPY = 1 << 24  # of a visit: epoch below, copy above (aqqua/plan/philox.py)


@dataclass(frozen=True)
class Step:
    """The images of one optimizer step, and how to see them: packs with the index of each image."""

    index_I: Int[np.ndarray, " I"]
    packs: list[tuple[Pack, list[np.ndarray], Int[np.ndarray, " B"]]]


@dataclass(frozen=True)
class Images:
    """N labelled images of a dataset."""

    dataset: Dataset
    row_N: Int[np.ndarray, " N"]  # in the dataset
    key_N: UInt64[np.ndarray, " N"]
    views: ViewConfig
    config: FinetuneConfig

    @staticmethod
    def of(dataset: Dataset, row_N: np.ndarray, views: ViewConfig, config: FinetuneConfig) -> "Images":
        """The images at these rows."""
        keys = dataset.table(["key"])["key"].to_numpy()
        return Images(dataset, np.asarray(row_N, np.int64), keys[row_N], views, config)

    def steps(
        self, backbone: VisionTransformer, train: np.ndarray, repeats_n: np.ndarray, epoch: int
    ) -> Iterator[Step]:
        """All steps of an epoch.

        Args:
            train: which of the N.
            repeats_n: how often each of them is shown.
        """
        order = drawn_order(self.key_N[train], repeats_n, self.config.seed, epoch)
        blocks_of = self.row_N // self.dataset.rows_of(0)
        places = blocks_of[train[order.index]]
        walk = _drawn_blocks(np.unique(places), self.config.seed, epoch)
        waiting = np.zeros(0, np.int64)  # places in `order`
        held: dict[int, Block] = {}
        for start in range(0, len(walk), self.config.window_blocks):
            window = walk[start : start + self.config.window_blocks]
            # What is left of the last window goes on with its pixels; its blocks are then let go.
            held = {b: held.get(b) or self.dataset.block(b) for b in {*places[waiting].tolist(), *window}}
            waiting = np.concatenate([waiting, np.flatnonzero(np.isin(places, window))])
            last = start + self.config.window_blocks >= len(walk)
            while len(waiting) and (last or len(waiting) >= self.config.batch_images):
                now, waiting = np.split(waiting, [min(self.config.batch_images, len(waiting))])
                yield self._step(backbone, train[order.index[now]], order.visit[now], held)

    def _step(
        self, backbone: VisionTransformer, index_I: np.ndarray, visit_I: np.ndarray, held: dict[int, Block]
    ) -> Step:
        block_I, at_I = np.divmod(self.row_N[index_I], self.dataset.rows_of(0))
        one = [held[b].sizes.take(at_I[i : i + 1]) for i, b in enumerate(block_I.tolist())]
        config, sizes = self.config, Sizes.concatenate(one)
        turn = config.turn, config.flip
        planned = turned_views(sizes, visit_I, config.seed, backbone.config.patch_px, self.views, *turn)
        budget = self._budget(backbone)
        packs, start = [], 0
        shape = backbone.config.patch_px, backbone.config.prefix
        for pack in single_view_packs(sizes, planned, block_I, at_I, visit_I, *shape, budget):
            places = zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True)
            pixels = [held[block].pixels(row) for block, row in places]
            packs.append((pack, pixels, index_I[start : start + pack.n_images]))
            start += pack.n_images
        return Step(index_I, packs)

    def _budget(self, backbone: VisionTransformer) -> int:
        return max(self.config.pack_tokens, self.views.max_tokens[0] + backbone.config.prefix)

    @torch.no_grad()
    def features(
        self,
        backbone: VisionTransformer,
        pooling: Pooling,
        which: np.ndarray,
        device: torch.device,
        progress: Callable[[int], None] = silent,
    ) -> Float[Tensor, "M D"]:
        """Features of some of the N, unturned, in the order of `which`; float32, on the device."""
        found: list[Tensor] = []
        order: list[np.ndarray] = []
        block_M, at_M = np.divmod(self.row_N[which], self.dataset.rows_of(0))
        for number in np.unique(block_M).tolist():
            block, mine = self.dataset.block(number), np.flatnonzero(block_M == number)
            sizes, patch_px = block.sizes.take(at_M[mine]), backbone.config.patch_px
            caps = self.views.max_tokens[0], self.views.min_tokens[0]
            planned = whole_views(sizes, patch_px, *caps, self.views)
            places = block_M[mine], at_M[mine], np.zeros(len(mine), np.uint64)
            for pack in single_view_packs(
                sizes, planned, *places, patch_px, backbone.config.prefix, self._budget(backbone)
            ):
                pixels = [block.pixels(row) for row in pack.row_I.tolist()]
                found.append(pooled(*pack_features(backbone, pack, pixels, device), pooling).float())
            order.append(mine)
            progress(sum(map(len, order)))
        back = np.argsort(np.concatenate(order))
        return torch.cat(found)[torch.from_numpy(back).to(device)]


@dataclass(frozen=True)
class Order:
    """Images of an epoch in the order in which they are shown; an image may stand in it more than once."""

    index: Int[np.ndarray, " I"]
    visit: UInt64[np.ndarray, " I"]


def drawn_order(key_n: np.ndarray, repeats_n: np.ndarray, seed: int, epoch: int) -> Order:
    """Each of n images as often as it repeats, in an order drawn by (seed, image, epoch, copy)."""
    index = np.repeat(np.arange(len(key_n)), repeats_n)
    first = np.cumsum(repeats_n) - repeats_n
    copy = np.arange(len(index)) - np.repeat(first, repeats_n)
    visit = (epoch + copy * COPY).astype(np.uint64)
    draw = uniforms(seed, key_n[index], visit, Purpose.FINETUNE_ORDER, 2)
    by_draw = np.lexsort((draw[:, 1], draw[:, 0]))
    return Order(index[by_draw], visit[by_draw])


def _drawn_blocks(blocks: np.ndarray, seed: int, epoch: int) -> list[int]:
    visits = np.full(len(blocks), epoch, np.uint64)
    draw = uniforms(seed, blocks.astype(np.uint64), visits, Purpose.FINETUNE_ORDER, 1)[:, 0]
    return blocks[np.argsort(draw, kind="stable")].tolist()
