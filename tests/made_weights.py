"""Sampling weights that several tests give to a dataset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua.store.columns import write_columns
from aqqua.store.read import Dataset
from aqqua.store.weights import KIND, WEIGHT, WEIGHT_SUM


def write_weights(out: Path, dataset: Path, of: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Weights that `of` gives by the keys of a block's images.

    Args:
        out: a new folder.
        dataset: its folder.
        of: keys, uint64 -> weights.
    """
    opened = Dataset.open(dataset)
    weights = [of(opened.sizes(block).key).astype(np.float32) for block in range(opened.blocks)]
    facts = {WEIGHT_SUM: float(sum(weight.astype(np.float64).sum() for weight in weights))}
    with write_columns(out, opened, KIND, [pa.field(WEIGHT, pa.float32(), False)], facts, "make") as writer:
        for part in range(opened.parts):
            writer.write_part(part, lambda block: pa.table({WEIGHT: weights[block]}))
    return out


def mixed(key_I: np.ndarray) -> np.ndarray:
    """Weights of all kinds by the key: a third never, the others 0.25 to 3.4."""
    return np.where(key_I % 3 == 0, 0.0, 0.25 + (key_I % 64) / 20)
