"""Which images are held out: a pure function of their group, the same for training and evaluation.

Whole groups (bin, frame, cast) are held out together. An image without a group is its own group,
named by its content, so that exact copies fall on the same side.
"""

import hashlib

import numpy as np
from jaxtyping import Bool

from aqqua.store.read import Dataset


def held_out(dataset: Dataset, block: int, share: float) -> Bool[np.ndarray, " I"]:
    """True for the images of a block that are never trained on.

    Args:
        share: of groups held out, 0 to 1.
    """
    table = dataset.table(["instrument", "group", "content"], blocks=[block])
    instruments, groups = (table[name].to_pylist() for name in ("instrument", "group"))
    contents = table["content"].to_pylist()
    return np.array(
        [
            _draw(f"{instrument}\0{group}".encode() if group else content) < share
            for instrument, group, content in zip(instruments, groups, contents, strict=True)
        ]
    )


def _draw(name: bytes) -> float:
    """Uniform in [0, 1) by hash: no seed, so that the split of a dataset never changes."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=6).digest(), "little") / 2.0**48
