"""The chosen images of a dataset, as a dataset: for what takes a whole one and streams it by blocks.

Test: tests/explore/server/test_select.py.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64

from aqqua.store.read import Block, Dataset


class SelectedDataset(Dataset):
    """A dataset of which only some images are seen when its blocks are read; nothing is copied."""

    def __init__(self, dataset: Dataset, keys: UInt64[np.ndarray, " K"]) -> None:
        super().__init__(dataset.path, dataset.manifest)
        self._chosen = np.unique(keys)

    def block_with(self, block: int, columns: Sequence[str]) -> tuple[Block, pa.Table]:
        """The chosen images of a block, with other columns of theirs; a block may have none.

        Raises:
            DamagedError, OSError: as Dataset.block_with.
        """
        keys = self.sizes(block).key
        keep = np.isin(keys, self._chosen)
        if not keep.any():  # its pixels are never read
            table = self.table(list(columns), blocks=[block]).slice(0, 0)
            return Block(
                self.sizes(block).take(np.flatnonzero(keep)), np.zeros(1, np.int64), np.zeros(0, np.uint8)
            ), table
        whole, table = super().block_with(block, columns)
        pieces = [whole.data[whole.offsets[i] : whole.offsets[i + 1]] for i in np.flatnonzero(keep)]
        offsets = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
        formats = (
            tuple(one for one, kept in zip(whole.formats, keep, strict=True) if kept) if whole.formats else ()
        )
        return Block(
            whole.sizes.take(np.flatnonzero(keep)), offsets, np.concatenate(pieces), formats
        ), table.filter(pa.array(keep))
