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
DEFAULT_HOLDOUT = 0.2  # share of groups tested on, where nobody says another
MIN_PER_CLASS = 2  # images that a class needs to be learnt: one to learn from, one to choose or stop by


def held_out(dataset: Dataset, block: int, share: float) -> Bool[np.ndarray, " I"]:
    """True for the images of a block that are never trained on.

    Args:
        share: of groups held out, 0 to 1.
    """
    return held_out_rows(dataset.table(NAMING, blocks=[block]), share)


def held_out_rows(table: pa.Table, share: float) -> Bool[np.ndarray, " I"]:
    """True for the images that are never trained on, of a table with the columns NAMING."""
    return np.array([draw(name) < share for name in group_names(table)], bool)


def group_names(table: pa.Table) -> list[bytes]:
    """What must not be divided: instrument and group of each row, or its content where it has no group.

    Args:
        table: with the columns NAMING.
    """
    instruments, groups, contents = (table[name].to_pylist() for name in NAMING)
    return [
        f"{instrument}\0{group}".encode() if group else content
        for instrument, group, content in zip(instruments, groups, contents, strict=True)
    ]


def draw(name: bytes) -> float:
    """Uniform in [0, 1) by hash: no seed, so that the split of a dataset never changes."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=6).digest(), "little") / 2.0**48
