"""A fair sample of one instrument's vectors, copied into a file that k-means reads over and over.

A dataset is shuffled, so whole blocks in a random order are a fair sample of it; of each, the images of the
instrument are kept. Which blocks those are follows from counts alone, and where the chunks of the sample
begin too, so any number of ranks draws the same sample; each rank copies only the chunks it will work on.

Memory: eight bytes for each block and instrument (of 3·10⁹ images in blocks of 512 with ten instruments:
470 MB), and a chunk. Disk: the sample, in the vectors' own type.
Letter key: B blocks, G instruments, I rows, D width. Test: tests/curate/clusters/test_instrument_sample.py.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int32

from aqqua.curate.clusters.vectors import CHUNK_ROWS, EmbeddingVectors, floats_of, own_chunks, sampled_chunks
from aqqua.store.read import Dataset
from aqqua.train.ranks import Ranks


def instruments_of(dataset: Dataset, block: int) -> list[str]:
    """Instrument of each image of a block."""
    names: list[str] = dataset.table(["instrument"], [block])["instrument"].to_pylist()
    return names


def count_instruments(dataset: Dataset, ranks: Ranks) -> tuple[list[str], Int32[np.ndarray, "B G"]]:
    """All instruments, sorted, and the images of each in each block; each rank reads its own blocks."""
    own = range(ranks.rank, dataset.blocks, ranks.size)
    mine: dict[str, Int32[np.ndarray, " B"]] = {}
    for block in own:
        for name, count in Counter(instruments_of(dataset, block)).items():
            if name not in mine:
                mine[name] = np.zeros(dataset.blocks, np.int32)
            mine[name][block] = count
    names = sorted({name for some in ranks.gather(list(mine)) for name in some})
    count_BG = torch.zeros(dataset.blocks, len(names), dtype=torch.int32)
    for g, name in enumerate(names):
        if name in mine:
            count_BG[:, g] = torch.from_numpy(mine.pop(name))
    return names, ranks.all_reduce(count_BG).numpy()


@dataclass(frozen=True)
class SamplePlan:
    """Which blocks a sample of one instrument is of, chunk by chunk."""

    instrument: str
    chunks: tuple[tuple[int, ...], ...]  # blocks of each
    first_rows: tuple[int, ...]  # of each chunk, then all rows

    @property
    def rows(self) -> int:
        """Of the whole sample."""
        return self.first_rows[-1]


def plan_sample(
    instrument: str, count_B: Int32[np.ndarray, " B"], wanted: int, seed: int, stream: int
) -> SamplePlan:
    """Blocks in random order until they hold so many images of the instrument; all of them if they never do.

    Args:
        count_B: images of the instrument in each block.
        wanted: images; of the last block, those beyond it are left out.
    """
    chunks: list[tuple[int, ...]] = []
    first_rows, blocks, rows = [0], [], 0
    for block in sampled_chunks(len(count_B), seed, stream):
        if rows >= wanted:
            break
        if count_B[block]:
            blocks.append(block)
            rows = min(rows + int(count_B[block]), wanted)
        if rows - first_rows[-1] >= CHUNK_ROWS:
            chunks.append(tuple(blocks))
            first_rows.append(rows)
            blocks = []
    if blocks:
        chunks.append(tuple(blocks))
        first_rows.append(rows)
    return SamplePlan(instrument, tuple(chunks), tuple(first_rows))


class SampledVectors:
    """A sample in a file of this process, with the chunks that are its own; as `Vectors`."""

    def __init__(self, plan: SamplePlan, source: EmbeddingVectors, file: Path, ranks: Ranks) -> None:
        """Copies them.

        Raises:
            ValueError: a vector is not finite; the message names the image.
        """
        self.rows, self.width, self.chunks = plan.rows, source.width, len(plan.chunks)
        self._plan, self._file, self._dtype = plan, file, source.chunk(plan.chunks[0][0]).dtype
        self._row_bytes = source.width * self._dtype.itemsize
        self._offset: dict[int, int] = {}
        with file.open("wb") as out:
            for chunk in own_chunks(self.chunks, ranks):
                self._offset[chunk] = out.tell()
                left = self._rows_of(chunk)
                for block in plan.chunks[chunk]:
                    rows_ID = _rows_of_instrument(source, block, plan.instrument)[:left]
                    left -= len(rows_ID)
                    out.write(rows_ID.tobytes())

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row."""
        return self._plan.first_rows[chunk]

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """Read anew at each call; only this process's own chunks can be."""
        rows = self._rows_of(chunk)
        found = np.fromfile(self._file, self._dtype, rows * self.width, offset=self._offset[chunk])
        return found.reshape(rows, self.width)

    def name_row(self, row: int) -> str:
        """By its number; what is here was checked when it was copied."""
        return f"vector {row} of the sample of {self._plan.instrument}"

    def _rows_of(self, chunk: int) -> int:
        return self._plan.first_rows[chunk + 1] - self._plan.first_rows[chunk]


def _rows_of_instrument(source: EmbeddingVectors, block: int, instrument: str) -> Float[np.ndarray, "I D"]:
    rows_ID = source.chunk(block)
    first = source.first_row(block)
    floats_of(rows_ID, lambda i: source.name_row(first + i), normalise=False)  # checks them
    return rows_ID[np.array(instruments_of(source.dataset, block)) == instrument]
