"""The images of an atlas as they were stored, where their dataset is at hand: the atlas has small ones only.

Test: tests/explore/server/test_server_originals.py.
"""

import io
import threading
from pathlib import Path

import numpy as np

from aqqua.explore.picture import eight_bit
from aqqua.store.read import Dataset

WHO = "explore serve"


class Originals:
    """A dataset's images by their keys; 12 bytes an image in memory. For many threads."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ValueError: the folder is no dataset.
        """
        self.dataset = Dataset.open(path)
        counts = [self.dataset.rows_of(block) for block in range(self.dataset.blocks)]
        self._first = np.cumsum([0, *counts])
        keys = self.dataset.table(["key"])["key"].to_numpy()
        self._order = np.argsort(keys, kind="stable").astype(np.uint32)
        self._keys = keys[self._order]
        self._lock = threading.Lock()

    def png(self, key: int) -> bytes:
        """An image as PNG, 8 bits a channel, no pixel added.

        Raises:
            ValueError: the dataset has no such image, or is damaged.
        """
        from PIL import Image

        place = int(np.searchsorted(self._keys, np.uint64(key)))
        if place == len(self._keys) or int(self._keys[place]) != key:
            raise ValueError(
                f"{WHO}: the dataset must hold the images of the atlas, got none of the key {key}; "
                "give its own"
            )
        row = int(self._order[place])
        block = int(np.searchsorted(self._first, row, side="right")) - 1
        with self._lock:  # a block is megabytes: one at a time
            pixels = self.dataset.block(block).pixels(row - int(self._first[block]))
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(eight_bit(pixels))).save(file, "PNG", compress_level=1)
        return file.getvalue()
