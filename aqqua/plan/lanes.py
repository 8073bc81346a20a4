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
from jaxtyping import Float, Float64, Int64, UInt64
from pydantic import BaseModel, ConfigDict, Field

from aqqua.plan.order import MOST_LANES, MOST_WINDOW_BLOCKS, lane_blocks, mix_window
from aqqua.store.sizes import Sizes

LOOK_AHEAD = 64  # images searched to fill the rest of a pack; the bits of LaneState.taken
Weights = Callable[[int], Float[np.ndarray, " I"]]  # sampling weights of a block's images


class LaneConfig(BaseModel):
    """How the data is walked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lanes: int = Field(
        default=8, ge=1, le=MOST_LANES, description="packs per step, over all ranks; ranks divide it"
    )
    window_blocks: int = Field(
        default=4, ge=1, le=MOST_WINDOW_BLOCKS, description="blocks mixed together, of 512 images each"
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

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        ...

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
        return zip(*(values.tolist() for values in self._blocks(window)), strict=True)

    def window(self, window: int) -> Window:
        """Images of a window; costs O(window), whatever came before.

        Raises:
            ValueError: the dataset has no blocks, the window is none, or a weight is not a weight.
        """
        block_B, epoch_B = self._blocks(window)
        parts = [self.dataset.sizes(block) for block in block_B.tolist()]
        sizes = Sizes.concatenate(parts)
        weight_I = None if self.weights is None else _weigh(self.weights, block_B.tolist(), parts)
        entries = mix_window(
            block_B,
            epoch_B,
            np.array([len(part) for part in parts], np.int64),
            lane=self.lane,
            window=window,
            seed=self.seed,
            key_I=None if weight_I is None else sizes.key,
            weight_I=weight_I,
        )
        return Window(entries.block_E, entries.row_E, entries.visit_E, sizes.take(entries.image_E))

    def _blocks(self, window: int) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
        return lane_blocks(
            blocks=self.dataset.blocks,
            lanes=self.config.lanes,
            window_blocks=self.config.window_blocks,
            lane=self.lane,
            window=window,
            seed=self.seed,
        )


def _weigh(weights: Weights, blocks: list[int], parts: list[Sizes]) -> Float64[np.ndarray, " I"]:
    """Weights of all images of a window's blocks."""
    found = [np.asarray(weights(block), np.float64) for block in blocks]
    for block, weight_I, part in zip(blocks, found, parts, strict=True):
        if weight_I.shape != (len(part),):
            raise ValueError(
                f"Lane: weights of block {block} must be one for each of its {len(part)} images, got shape "
                f"{weight_I.shape}; correct the weights"
            )
    return np.concatenate(found)


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
