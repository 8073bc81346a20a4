"""A dataset of any number of images, all alike, so that planning it costs little."""

from dataclasses import dataclass

import numpy as np

from aqqua.plan.lanes import Lane, LaneConfig
from aqqua.plan.masks import MaskConfig
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.sizes import Sizes

LANES = 24  # the smallest number that 1, 2, 3, 4 and 8 ranks divide
BLOCK = 512
FEW_VIEWS = ViewConfig(locals=1, max_tokens=(64, 16))


@dataclass
class Drawn:
    """A dataset of any size whose images are all alike, and a count of the blocks asked for."""

    rows: int
    asked: int = 0

    @property
    def blocks(self) -> int:
        return -(-self.rows // BLOCK)

    def sizes(self, block: int) -> Sizes:
        self.asked += 1
        n = min(BLOCK, self.rows - block * BLOCK)
        return Sizes(
            key=np.arange(n, dtype=np.uint64) + np.uint64(block * BLOCK),
            height=np.full(n, 40, np.int32),
            width=np.full(n, 56, np.int32),
            channels=np.ones(n, np.int8),
            bits=np.full(n, 8, np.int8),
            um_per_px=np.full(n, 10, np.float32),
            background=np.full((n, 3), 255, np.uint16),
            box=np.tile(np.array([0, 0, 40, 56], np.int32), (n, 1)),
            instrument=np.zeros(n, np.int32),
            instrument_names=("ISIIS",),
        )


def lane_of(dataset: Drawn, number: int, **config: int) -> Lane:
    return Lane(dataset, LaneConfig(**{"lanes": LANES, "window_blocks": 4, **config}), number, seed=11)


def packer_of(dataset: Drawn, number: int) -> Packer:
    lane = lane_of(dataset, number, window_blocks=1, pack_tokens=2048)
    return Packer(lane, patch_px=8, prefix_tokens=5, views=FEW_VIEWS, masks=MaskConfig())
