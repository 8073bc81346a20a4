"""Records of all images, spilled to disk by the cell they belong to, and read back cell by cell in tiles.

Only images of one cell are compared with one another. A bucket is a file of the records of many cells; it
is mapped, not loaded, so that memory is a tile or two of records plus an index of 8 bytes for every record
of the one bucket at hand (and as much again, three times, while that is sorted). With BUCKETS_MOST buckets,
3·10⁹ images are 12 million a bucket: 0.4 GB.

Test: tests/curate/copies/test_cells.py.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

BUCKET_BYTES = 256 << 20  # what a bucket should hold
BUCKETS_MOST = 256
BUFFER_BYTES = 64 << 20  # of all buckets together, before they are written
TILE = 1024  # records compared at once: tiles of 1024 x 1024 pairs

Tiles = tuple[np.ndarray, np.ndarray, bool]


class CellSpill:
    """Records with the fields `cell` (uint64), `order` (float32) and `row` (int64), among others more."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype, expected: int) -> None:
        """
        Args:
            expected: about how many records there will be; decides the number of buckets.
        """
        self.dtype = dtype
        self.buckets = int(min(max(expected * dtype.itemsize // BUCKET_BYTES + 1, 1), BUCKETS_MOST))
        self._paths = [folder / f"{name}-{bucket}.bin" for bucket in range(self.buckets)]
        self._waiting: list[np.ndarray] = []
        self._bytes = 0

    def add(self, records: np.ndarray) -> None:
        self._waiting.append(records)
        self._bytes += records.nbytes
        if self._bytes >= BUFFER_BYTES:
            self._flush()

    def sorted_buckets(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The records of each bucket, mapped, and their places sorted by cell, order and row."""
        self._flush()
        for path in self._paths:
            if path.is_file():
                records = np.memmap(path, self.dtype, "r")
                yield records, np.lexsort((records["row"], records["order"], records["cell"]))

    def cells(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same for each cell that holds more than one record."""
        for records, places in self.sorted_buckets():
            cell = records["cell"][places]
            first = np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))
            last = np.append(first[1:], len(cell))
            for begin, end in zip(first[last - first > 1], last[last - first > 1], strict=True):
                yield records, places[begin:end]

    def tiles(self, reach: float) -> Iterator[Tiles]:
        """Pairs of tiles that hold every two records of a cell whose `order` differs by at most `reach`.

        Yields:
            Records of the one, of the other, and whether they are the same tile.
        """
        for records, places in self.cells():
            order = records["order"][places]
            for i in range(0, len(places), TILE):
                left = records[places[i : i + TILE]]
                yield left, left, True
                furthest = left["order"][-1] + reach
                for j in range(i + TILE, int(np.searchsorted(order, furthest, side="right")), TILE):
                    yield left, records[places[j : j + TILE]], False

    def _flush(self) -> None:
        if not self._waiting:
            return
        records = np.concatenate(self._waiting)
        self._waiting, self._bytes = [], 0
        bucket = (records["cell"] % np.uint64(self.buckets)).astype(np.int64)
        for number in np.unique(bucket).tolist():
            with self._paths[number].open("ab") as file:
                file.write(records[bucket == number].tobytes())
