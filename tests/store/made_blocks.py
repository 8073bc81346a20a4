"""A dataset without files, whose blocks come as a test wants: late, damaged, or not at all."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua.store.read import Block, DamagedError, Dataset
from aqqua.store.schema import PIXELS_VERSION
from aqqua.store.sizes import Sizes

BLOCK_BYTES = 100_000
LONG_S = 30.0  # what should come at once; reached only when a test fails
Happens = Callable[[int, int], object]


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


class MadeBlocks(Dataset):
    """Blocks of one image each, whose key is the number of its block and whose bytes are all that number.

    Args:
        blocks: how many.
        happens: called with a block's number and how often it was read before, in the reading thread; may
            wait or raise.
        bytes_of: a block's pixels; the manifest knows nothing of it, the footer does.
    """

    def __init__(
        self,
        blocks: int,
        happens: Happens = lambda *_: None,
        bytes_of: Callable[[int], int] = lambda _: BLOCK_BYTES,
    ) -> None:
        part = {"name": "part-00000.parquet", "blocks": blocks}
        manifest = {
            "schema_version": PIXELS_VERSION, "rows": blocks, "parts": [part], "block_rows": 1,
            "pixel_bytes": blocks * BLOCK_BYTES,
        }  # fmt: skip
        super().__init__(Path("made"), manifest)
        self.happens, self.bytes_of, self.reads = happens, bytes_of, Counter[int]()

    def pixel_bytes(self, block: int) -> int:
        return self.bytes_of(block)

    def block_with(self, block: int, columns: Sequence[str]) -> tuple[Block, pa.Table]:
        self.reads[block] += 1
        self.happens(block, self.reads[block] - 1)
        one, nbytes = np.array([block]), self.bytes_of(block)
        sizes = Sizes(
            key=one.astype(np.uint64), height=np.ones(1, np.int32), width=np.full(1, nbytes, np.int32),
            channels=np.ones(1, np.int8), bits=np.full(1, 8, np.int8), um_per_px=one.astype(np.float32),
            background=np.zeros((1, 3), np.uint16), box=np.zeros((1, 4), np.int32),
            instrument=np.zeros(1, np.int32), instrument_names=("made",),
        )  # fmt: skip
        data = np.full(nbytes, block % 251, np.uint8)
        return Block(sizes, np.array([0, nbytes]), data), pa.table({name: one for name in columns})


def damaged(*blocks: int) -> Happens:
    """These blocks are damaged, the others are there at once."""

    def happens(block: int, _before: int) -> None:
        if block in blocks:
            raise DamagedError(f"block {block} must be readable, got flipped bits")

    return happens
