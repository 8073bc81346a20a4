"""Which images are held out: a pure function of their group, the same for training and evaluation.

Whole groups (bin, frame, cast) are held out together. An image without a group is its own group,
named by its content, so that exact copies fall on the same side.
"""

import hashlib

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from aqqua.store.read import Dataset

NAMING = ("instrument", "group", "content")  # columns that say to which group an image belongs


def held_out(dataset: Dataset, block: int, share: float) -> Bool[np.ndarray, " I"]:
    """True for the images of a block that are never trained on.

    Args:
        share: of groups held out, 0 to 1.
    """
    return held_out_rows(dataset.table(NAMING, blocks=[block]), share)


def held_out_rows(table: pa.Table, share: float) -> Bool[np.ndarray, " I"]:
    """True for the images that are never trained on, of a table with the columns NAMING."""
    instruments, groups = (table[name].to_pylist() for name in ("instrument", "group"))
    contents = table["content"].to_pylist()
    return np.array(
        [
            draw(f"{instrument}\0{group}".encode() if group else content) < share
            for instrument, group, content in zip(instruments, groups, contents, strict=True)
        ]
    )


def draw(name: bytes) -> float:
    """Uniform in [0, 1) by hash: no seed, so that the split of a dataset never changes."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=6).digest(), "little") / 2.0**48
