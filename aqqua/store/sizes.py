"""Of the images of a block all that planning needs, and no pixels.

Apart from reading, so that planning loads neither Arrow nor a file: a plan of any number of images
starts in a few tens of megabytes. Letters: I images.
Test: tests/store/test_read.py, test_sizes.py; that planning stays light: tests/plan/test_lanes.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the I images of one block, all that planning needs; no pixels."""

    key: np.ndarray  # [I] uint64, names the image in every random draw
    height: np.ndarray  # [I] int32, pixels
    width: np.ndarray  # [I] int32, pixels
    channels: np.ndarray  # [I] int8, 1 or 3
    bits: np.ndarray  # [I] int8, 8 or 16
    um_per_px: np.ndarray  # [I] float32, NaN is unknown
    background: np.ndarray  # [I, 3] uint16, in the image's own grey levels
    box: np.ndarray  # [I, 4] int32: top, left, bottom, right of the organism, half-open
    instrument: np.ndarray  # [I] int32, index into instrument_names
    instrument_names: tuple[str, ...]  # of this block; the order differs from block to block

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: np.ndarray) -> "Sizes":
        """The sizes of some images, in the order of `rows` (indices, repeats allowed)."""
        arrays = {name: getattr(self, name)[rows] for name in _PER_IMAGE}
        return Sizes(**arrays, instrument_names=self.instrument_names)

    @staticmethod
    def concatenate(parts: Sequence["Sizes"]) -> "Sizes":
        """The images of several blocks, one after the other.

        Raises:
            ValueError: there is no block.
        """
        if not parts:
            raise ValueError("Sizes: concatenate must be given at least one block, got none; pass its sizes")
        names = tuple(dict.fromkeys(name for part in parts for name in part.instrument_names))
        codes = [np.array([names.index(n) for n in part.instrument_names], np.int32) for part in parts]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PER_IMAGE}
        arrays["instrument"] = np.concatenate(
            [code[part.instrument] for code, part in zip(codes, parts, strict=True)]
        )
        return Sizes(**arrays, instrument_names=names)


_PER_IMAGE = tuple(field.name for field in fields(Sizes) if field.name != "instrument_names")
