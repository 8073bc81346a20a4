"""Whole blocks read ahead of the plan, in threads, within a bound of memory.

`BlockReader.follow` says which blocks are coming, in the order of need; threads read them, sizes and
pixels at once, checksums verified, as long as what nobody asked for yet stays within `read_ahead_mb`.
Planning (`sizes`) and rendering (`block`) are served from the same read. A block that is asked for is
read before all others, whatever is on the shelf (aqqua.store.shelf), and stays until `follow` no longer
names it.

What is served does not depend on the threads: they change when a block is read, never what it is
(aqqua.store.substitute). Test: tests/store/test_prefetch.py. Timing: bench/data/read.py.
"""

import sys
import time
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field

from aqqua.store.read import Block, DamagedError, Dataset
from aqqua.store.shelf import Shelf
from aqqua.store.sizes import Sizes
from aqqua.store.substitute import BadBlock, Served
from aqqua.store.weights import SamplingWeights

SLOW_S = 5.0  # a wait that is told of
QUIET_S = 600.0  # between two such lines
FAIR_BLOCKS = 1000  # a share of fewer says little: two bad ones among the first hundred can be chance


class ReadConfig(BaseModel):
    """How a dataset is read during training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_threads: int = Field(
        default=2,
        ge=0,
        le=64,
        description="threads that read blocks ahead; 0 reads when asked, without time limit, for debugging",
    )
    read_ahead_mb: int = Field(
        default=512,
        ge=0,
        le=1 << 20,
        description="MB (10⁶ bytes) of blocks read before they are asked for, one at least; 0 reads none "
        "ahead. Those in use come on top, and as much again where one pack needs many windows",
    )
    read_timeout_s: float = Field(
        default=600.0, gt=0, description="longest wait for one block; then the run ends with its name"
    )
    max_bad_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description=f"share of the blocks read that may be damaged and replaced; before {FAIR_BLOCKS} are "
        "read, of so many (of all, where the dataset has fewer). One block always may",
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class BlockReader:
    """Blocks of a dataset for one consumer; what planning asks (aqqua.plan.lanes.Blocks), and pixels.

    Threads start with the first request and end with `close`, at the latest with the reader or the
    interpreter; none of them ever keeps a process from ending.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ReadConfig | None = None,
        columns: Sequence[str] = (),
        say: Callable[[str], None] = _to_stderr,
        *,
        files: bool = False,
        weights: SamplingWeights | None = None,
    ) -> None:
        """
        Args:
            dataset: whose blocks are served.
            config: threads and bounds.
            columns: further columns for `table`, of the same read.
            say: gets a line when a wait is long.
            files: blocks come with original files as they are (`Block.image`).
            weights: read beside each block, for `weights`.
        """
        self.config, self.blocks, self.say = config or ReadConfig(), dataset.blocks, say
        self._dataset = dataset
        budget_bytes = self.config.read_ahead_mb * 1_000_000
        self._shelf = Shelf(
            dataset,
            tuple(columns),
            threads=self.config.read_threads,
            budget_bytes=budget_bytes,
            files=files,
            weights=weights,
        )
        self._counted: set[int] = set()  # since `follow` names them
        self._visits = 0
        self._bad: set[int] = set()
        self._too_damaged = ""  # why nothing more is served
        self._quiet_until = -QUIET_S
        # Threads know the shelf alone: so a reader that is forgotten ends them, and so does the interpreter.
        self.close = weakref.finalize(self, Shelf.close, self._shelf)

    def follow(self, coming: Sequence[int]) -> None:
        """Say which blocks are in use or will be, in the order of need; others are dropped."""
        self._counted.intersection_update(coming)
        self._shelf.follow(coming)

    def sizes(self, block: int, /) -> Sizes:
        """Sizes of the images that stand for a block; its pixels are there then, if `follow` named it."""
        return self._get(block).block.sizes

    def block(self, block: int) -> Block:
        """The images that stand for a block.

        Raises:
            OSError: the disk fails, or let `read_timeout_s` pass.
            DamagedError: more blocks are damaged than `max_bad_share` allows; from then on, always.
            ReaderClosedError: the reader was closed.
        """
        return self._get(block, pixels=True).block

    def table(self, block: int) -> pa.Table:
        """Further columns of the images that stand for a block."""
        return self._get(block).table

    def weights(self, block: int) -> Float64[np.ndarray, " I"]:
        """Sampling weights of the images that stand for a block; the reader must have been given some."""
        weight_I = self._get(block).weight_I
        assert weight_I is not None, f"reader: weights must be given to read those of block {block}"
        return weight_I

    def bad(self, block: int) -> BadBlock | None:
        """What is wrong with a block, and what stands for it; None if it is sound."""
        return self._get(block).bad

    @property
    def closed(self) -> bool:
        return not self.close.alive

    def _get(self, block: int, *, pixels: bool = False) -> Served:
        if self._too_damaged:
            raise DamagedError(self._too_damaged)
        served = self._shelf.ask(block, self._wait, pixels=pixels)
        if block not in self._counted:
            self._counted.add(block)
            self._count(served)
        return served

    def _count(self, served: Served) -> None:
        """Bear a bad block now and then, not a broken dataset; counted in the order of the plan."""
        self._visits += 1
        if served.bad is None:
            return
        self._bad.add(served.bad.block)
        among = min(max(self._visits, FAIR_BLOCKS), self.blocks)
        if len(self._bad) > max(1.0, self.config.max_bad_share * among):
            self._too_damaged = (
                f"dataset: at most 1 block or {self.config.max_bad_share:.2%} of {among} blocks may be "
                f"damaged, got {len(self._bad)} in {self._visits} reads, the last of them: "
                f"{served.bad.error}; restore the files that aqqua dataset verify names, or raise "
                "data.max_bad_share"
            )
            raise DamagedError(self._too_damaged)

    def _wait(self, block: int, waited_s: float) -> None:
        """Called again and again while a block is waited for: speak up, then give up."""
        name, group = self._dataset.place(block)
        what = f"{self._dataset.path / name} row group {group}"
        if waited_s > self.config.read_timeout_s:
            raise TimeoutError(
                f"dataset: {what} must be read within {self.config.read_timeout_s:g} s, got nothing in "
                f"{waited_s:.0f} s; look at the disk or the network, or raise data.read_timeout_s"
            )
        now = time.monotonic()
        if waited_s > SLOW_S and now > self._quiet_until:
            self._quiet_until = now + QUIET_S
            self.say(f"slow disk: waiting for {what} since {waited_s:.0f} s")
