"""A dataset in the AqQua release form, for others (aqqua.instruments.lmdb_release says what that is).

An image's id in the release is its whole image_id, so that images of several inputs stay apart.
Test: tests/test_cli_export.py, there and back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aqqua.instruments.lmdb_release import write_release
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset

# Columns of the dataset that are fields of a Record.
FIELDS = (
    *("um_per_px", "instrument", "sample", "group", "time", "lat", "lon", "depth_m", "volume_l"),
    *("label", "label_status", "aphia_id", "licence", "source"),
)


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """Pixels that a dataset already holds."""

    pixels: np.ndarray

    def load(self, tree: Tree) -> np.ndarray:  # noqa: ARG002 - of the protocol; no tree is needed
        """The pixels as acquired."""
        return self.pixels


def export_release(
    dataset: Dataset, folder: Path, advance: Callable[[int], None] = lambda _done: None
) -> int:
    """Write all images of a dataset as a release, one block in memory at a time; returns their number.

    Args:
        dataset: what to write.
        folder: the release, new; there whole or not at all.
        advance: called with the images done, after each block.

    Raises:
        FileExistsError: the folder is already there.
        ValueError: an image_id no LMDB key can be (over 511 bytes), or a damaged part of the dataset.
        ModuleNotFoundError: without the extra `release`.
    """
    return write_release(folder, _rows(dataset, advance))


def _rows(dataset: Dataset, advance: Callable[[int], None]) -> Iterator[tuple[Record, np.ndarray]]:
    done = 0
    for number, block in enumerate(dataset.iter_blocks()):
        table = dataset.table(["image_id", *FIELDS], [number])
        for i, row in enumerate(table.to_pylist()):
            pixels = block.pixels(i)
            yield Record(object_id=row.pop("image_id"), pixels=StoredPixels(pixels), **row), pixels
        done += len(block)
        advance(done)
