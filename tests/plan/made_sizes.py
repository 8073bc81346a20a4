"""Image sizes made from a law, in memory: a dataset of any number of images, without a pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from aqqua.plan.lanes import Lane, LaneConfig, LaneState, Weights
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.sizes import Sizes

FAR = 3_000_000_000  # images: the number the memory of planning must not grow with


def sizes(
    height: ArrayLike,
    width: ArrayLike,
    *,
    keys: ArrayLike | None = None,
    um_per_px: ArrayLike = 10.0,
    background: int = 255,
    bits: int = 8,
    box: ArrayLike | None = None,
) -> Sizes:
    """Sizes of images given by their sides; the organism fills the image unless `box` is given."""
    rows, columns = (np.atleast_1d(np.asarray(side, np.int32)) for side in (height, width))
    n = len(rows)
    whole = np.stack([rows * 0, columns * 0, rows, columns], axis=1)
    return Sizes(
        key=mixed(np.arange(n)) if keys is None else np.atleast_1d(np.asarray(keys, np.uint64)),
        height=rows,
        width=columns,
        channels=np.ones(n, np.int8),
        bits=np.full(n, bits, np.int8),
        um_per_px=np.broadcast_to(np.asarray(um_per_px, np.float32), n).copy(),
        background=np.full((n, 3), background, np.uint16),
        box=whole if box is None else np.broadcast_to(np.asarray(box, np.int32), (n, 4)).copy(),
        instrument=np.zeros(n, np.int32),
        instrument_names=("ISIIS",),
    )


def mixed(number: np.ndarray) -> np.ndarray:
    """Distinct keys that look random: multiplication by an odd number is a bijection of 64 bits."""
    return number.astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(12345)


def isiis_like(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths with the spread of ISIIS images: median 55 px, 5 % under 35, 5 % over 170."""
    draw = np.random.default_rng(seed)
    common = draw.normal(0, 0.45, n)
    sides = 56 * np.exp(common + draw.normal(0, 0.3, (2, n)))
    height, width = np.clip(sides, 21, 424).astype(np.int32)
    return height, width


@dataclass(frozen=True)
class MadeDataset:
    """What planning asks of a dataset, for any number of images: key = image number, mixed."""

    rows: int
    block_rows: int = 512
    seed: int = 0

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block_rows)

    def sizes(self, block: int) -> Sizes:
        first = block * self.block_rows
        number = np.arange(first, min(first + self.block_rows, self.rows))
        height, width = isiis_like(len(number), self.seed + block)
        return sizes(height, width, keys=mixed(number))


def make_lane(
    dataset: MadeDataset, lane: int = 0, *, seed: int = 0, weights: Weights | None = None, **config: int
) -> Lane:
    return Lane(dataset, LaneConfig(**config), lane, seed, weights)


def make_packer(
    lane: Lane, views: ViewConfig | None = None, masks: MaskConfig | None = None, patch_px: int = 8
) -> Packer:
    return Packer(
        lane, patch_px=patch_px, prefix_tokens=5, views=views or ViewConfig(), masks=masks or MaskConfig()
    )


def packs_of(packer: Packer, count: int) -> tuple[list[Pack], LaneState]:
    """The first packs of a lane, and where it stands after them."""
    state, packs = LaneState(), []
    for _ in range(count):
        pack, state = packer.next_pack(state)
        packs.append(pack)
    return packs, state
