"""Embeddings that are close: records of them in cells, and pairs whose cosine is large.

Test: tests/curate/copies/test_duplicates.py.
"""

from collections.abc import Iterator

import numpy as np

from aqqua.curate.copies.cells import CellSpill
from aqqua.store.columns import Columns


def close_vectors(spill: CellSpill, cosine: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of pairs of a cell whose vectors, of length 1, have a product of at least `cosine`."""
    for left, right, same in spill.tiles(0):
        product = left["embedding"].astype(np.float32) @ right["embedding"].astype(np.float32).T
        close = product >= cosine
        i, j = np.nonzero(np.triu(close, 1) if same else close)
        yield left["row"][i], right["row"][j]


def vector_type(width: int) -> np.dtype:
    """Of records for a CellSpill."""
    return np.dtype([("cell", "u8"), ("order", "f4"), ("row", "i8"), ("embedding", "f4", width)])


def vector_records(
    embeddings: Columns, block: int, dtype: np.dtype, cell: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Of a block's images, each in its cell."""
    records = np.zeros(len(rows), dtype)
    records["cell"], records["row"] = cell, rows
    records["embedding"] = unit_embeddings(embeddings, block)
    return records


def unit_embeddings(embeddings: Columns, block: int) -> np.ndarray:
    """Embeddings of a block with length 1, float32 [I, D]; those of length 0 or not finite become 0."""
    column = embeddings.block(block, ["embedding"])["embedding"].combine_chunks()
    width = column.type.list_size
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(np.isfinite(length) & (length > 0), values / np.where(length > 0, length, 1), 0)
