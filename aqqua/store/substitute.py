"""A block one can rely on: asked for again while the disk fails, replaced where its bytes are damaged.

What stands for a damaged block is decided by a full read and by the block's number alone: the first
readable one in a fixed random order of all blocks. So every rank, every resume and every timing of
threads sees the same images. A disk that fails is never taken for damage: it would be an image more or
less by chance.
Test: tests/store/test_substitute.py.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from aqqua import _core
from aqqua.store.read import Block, DamagedError, Dataset
from aqqua.store.weights import SamplingWeights

RETRY_S = (0.2, 1.0, 4.0)  # pauses between attempts while the system reports errors
MOST_TRIED = 16  # substitutes; if all are damaged, so is nearly all of the dataset
_Read = TypeVar("_Read")
_SEED = 0x5AB57  # of the order of the substitutes; a constant, since the answer must never change


@dataclass(frozen=True, slots=True)
class BadBlock:
    """A block whose bytes are damaged, and what is used in its place."""

    block: int
    file: str  # the part's name, in the dataset's folder
    row_group: int
    error: str
    replacement: int  # number of the block that stands for it


@dataclass(frozen=True, slots=True)
class Served:
    """What stands for a block: nearly always itself."""

    block: Block
    table: pa.Table  # the further columns that were asked for
    bad: BadBlock | None  # None: it is the block itself
    weight_I: np.ndarray | None = None  # sampling weights of these images, where they were asked for

    @property
    def nbytes(self) -> int:
        """Bytes of memory, but for about a hundred per image."""
        return self.block.data.nbytes

    def without_pixels(self) -> "Served":
        """The same with the bytes of the images left out."""
        return replace(self, block=Block(self.block.sizes, np.empty(0, np.int64), np.empty(0, np.uint8)))

    @property
    def has_pixels(self) -> bool:
        return len(self.block.offsets) > 0  # one more than images where they are there


def substitutes(block: int, blocks: int) -> Iterator[int]:
    """The blocks that may stand for a damaged one, best first; a function of the two numbers alone.

    Each block has an order of its own, so that neighbours in a torn file get different ones.
    """
    for start in range(0, blocks, MOST_TRIED):
        index = np.arange(start, min(start + MOST_TRIED, blocks), dtype=np.uint64)
        for other in _core.permute(index, blocks, _SEED, block).tolist():
            if other != block:
                yield other


def read_served(
    dataset: Dataset,
    block: int,
    columns: Sequence[str] = (),
    pause: Callable[[float], object] = time.sleep,
    *,
    files: bool = False,
    weights: SamplingWeights | None = None,
) -> Served:
    """Read a whole block, or the one that stands for it.

    Args:
        dataset: where it lies.
        block: its number.
        columns: further columns for `Served.table`, from the same read.
        pause: waits so many seconds before the next attempt; what it raises ends the reading.
        files: original files stay files.
        weights: read too, of the images that are served.

    Raises:
        OSError: the system could not read it in all attempts.
        DamagedError: its substitutes are damaged as well.
        ValueError: the weights are damaged; nothing stands for those.
    """
    once = dataset.files_with if files else dataset.block_with

    def served(number: int, bad: BadBlock | None) -> Served:
        found, table = _patiently(lambda: once(number, columns), pause)
        if weights is None:
            return Served(found, table, bad)
        return Served(found, table, bad, _patiently(lambda: weights.block(number, found.sizes), pause))

    try:
        return served(block, None)
    except DamagedError as error:
        what = str(error)
    tried = 0
    for other in substitutes(block, dataset.blocks):
        try:
            return served(other, BadBlock(block, *dataset.place(block), what, other))
        except DamagedError:
            tried += 1
            if tried == MOST_TRIED:
                break
    raise DamagedError(
        f"dataset: a damaged block must have a substitute, got none among {tried} others, damaged too, for: "
        f"{what}; restore the files that aqqua dataset verify names"
    )


def _patiently(read: Callable[[], _Read], pause: Callable[[float], object]) -> _Read:
    for seconds in RETRY_S:
        try:
            return _twice(read)
        except OSError:
            pause(seconds)
    try:
        return _twice(read)
    except OSError as error:
        attempts = f"{len(RETRY_S) + 1} attempts in {sum(RETRY_S):.0f} s"
        raise OSError(error.errno, f"{error.strerror} ({attempts})") from error


def _twice(read: Callable[[], _Read]) -> _Read:
    """Damage must show twice, from a file opened anew: a transfer can go wrong where the file is sound."""
    try:
        return read()
    except ValueError:  # DamagedError of images; of weights
        return read()
