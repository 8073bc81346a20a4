"""The order of the data: lanes that walk their own blocks, mix within a window, and never forget.

A run has a fixed number of lanes whatever the number of GPUs. The blocks of all epochs stand in
one endless row, each epoch in its own Feistel order; lane l of Λ owns the positions l, l + Λ,
l + 2Λ, ... A window is a few consecutive blocks of a lane; its images are repeated or dropped by
their weights and mixed. So every image is seen once per epoch at weight 1, the global batch does
not depend on the number of ranks, and the whole state of a lane is three integers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64, UInt64
from pydantic import BaseModel, ConfigDict, Field

from aqqua.plan.permute import permute
from aqqua.plan.philox import Purpose, uniforms
from aqqua.store.read import Sizes

LOOK_AHEAD = 64  # images searched to fill the rest of a pack; the bits of LaneState.taken
COPY_SHIFT = 24  # a visit is epoch + copy << 24: 16 M epochs, 256 copies
Weights = Callable[[int], Float[np.ndarray, " I"]]  # sampling weights of a block's images


class LaneConfig(BaseModel):
    """How the data is walked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lanes: int = Field(
        default=8, ge=1, le=65536, description="packs per step, over all ranks; ranks divide it"
    )
    window_blocks: int = Field(
        default=4, ge=1, le=64, description="blocks mixed together, of 512 images each"
    )
    pack_tokens: int = Field(
        default=16384, ge=64, le=1 << 22, description="student tokens in a pack, at most"
    )


@dataclass(frozen=True)
class LaneState:
    """Where a lane stands: the first image not yet used, and which of the next 64 are."""

    window: int = 0
    index: int = 0
    taken: int = 0  # bit j: entry index + j is used already; bit 0 is never set


@dataclass(frozen=True)
class Window:
    """The images of one window in the order they are used. E entries (repeats included)."""

    block_E: Int64[np.ndarray, " E"]
    row_E: Int64[np.ndarray, " E"]
    visit_E: UInt64[np.ndarray, " E"]
    sizes: Sizes

    def __len__(self) -> int:
        return len(self.block_E)


@runtime_checkable  # for the check of shapes and types in tests (make shapes)
class Blocks(Protocol):
    """What planning asks of a dataset: no pixels, and no file where a test makes the sizes up."""

    blocks: int

    def sizes(self, block: int, /) -> Sizes:
        """Sizes of the images of a block."""
        ...


@dataclass(frozen=True)
class Lane:
    """One lane's endless order of images."""

    dataset: Blocks
    config: LaneConfig
    lane: int
    seed: int
    weights: Weights | None = None

    def blocks(self, window: int) -> Iterator[tuple[int, int]]:
        """(block, epoch) of a window's blocks, in order."""
        first = window * self.config.window_blocks
        for ordinal in range(first, first + self.config.window_blocks):
            epoch, position = divmod(self.lane + self.config.lanes * ordinal, self.dataset.blocks)
            index = np.array([position], np.uint64)
            yield int(permute(index, self.dataset.blocks, self.seed, epoch)[0]), epoch

    def window(self, window: int) -> Window:
        """Images of a window; costs O(window), whatever came before."""
        parts = [self._entries(block, epoch) for block, epoch in self.blocks(window)]
        block, row, visit = (np.concatenate([part[i] for part in parts]) for i in range(3))
        sizes = Sizes.concatenate([part[3] for part in parts])
        if not len(block):
            return Window(block, row, visit, sizes)
        stream = (self.lane << 40) | (1 << 39) | window  # apart from the epochs' streams
        order = permute(np.arange(len(block), dtype=np.uint64), len(block), self.seed, stream).astype(
            np.int64
        )
        return Window(block[order], row[order], visit[order], sizes.take(order))

    def _entries(self, block: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Sizes]:
        sizes = self.dataset.sizes(block)
        copies = np.ones(len(sizes.key), np.int64)
        if self.weights is not None:
            visit = np.full(len(copies), epoch, np.uint64)
            copies = repeats(
                self.weights(block), uniforms(self.seed, sizes.key, visit, Purpose.REPEAT, 1)[:, 0]
            )
        row = np.repeat(np.arange(len(copies)), copies)
        copy = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
        visit = (epoch + (copy << COPY_SHIFT)).astype(np.uint64)
        return np.full(len(row), block), row, visit, sizes.take(row)


def repeats(weight_I: Float[np.ndarray, " I"], draw_I: Float[np.ndarray, " I"]) -> Int64[np.ndarray, " I"]:
    """How often each image is used in an epoch: weight on average, never off by one or more."""
    return np.minimum(np.floor(weight_I + draw_I), 255).astype(np.int64)


def lanes_of_rank(lanes: int, rank: int, ranks: int) -> range:
    """Lanes that a rank serves.

    Raises:
        ValueError: the ranks do not divide the lanes.
    """
    if ranks < 1 or lanes % ranks or not 0 <= rank < ranks:
        raise ValueError(
            f"lanes_of_rank: ranks must divide lanes, got rank {rank} of {ranks} and {lanes} lanes; "
            f"set data.lanes to a multiple of {ranks}"
        )
    return range(rank, lanes, ranks)
