"""Patch tokens of many images, packed end to end, in memory or on disk.

Letters: N patches of all images, I images, D width, S chosen images.
Test: tests/evaluate/test_patch_tokens.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class PatchTokens:
    """Image i owns `count_I[i]` rows of the table from `first_I[i]` on; others may lie between."""

    table_ND: Float[np.ndarray, "N D"]  # may be a memory map; float32 or float16
    first_I: Int[np.ndarray, " I"]
    count_I: Int[np.ndarray, " I"]

    @classmethod
    def packed(cls, tokens_ND: Float[np.ndarray, "N D"], offsets_I1: Int[np.ndarray, " I1"]) -> "PatchTokens":
        """Images that follow each other; `offsets_I1` ends with N.

        Raises:
            ValueError: offsets do not begin at 0, end at N and rise: every image has a patch.
        """
        counts = np.diff(offsets_I1)
        if (
            not len(offsets_I1)
            or offsets_I1[0] != 0
            or offsets_I1[-1] != len(tokens_ND)
            or (counts < 1).any()
        ):
            raise ValueError(
                f"tokens: offsets must rise from 0 to {len(tokens_ND)}, got {offsets_I1[:4].tolist()} to "
                f"{offsets_I1[-1:].tolist()}; give where each image starts, then the end"
            )
        return cls(tokens_ND, offsets_I1[:-1].astype(np.int64), counts.astype(np.int64))

    @staticmethod
    def chained(parts: Sequence["PatchTokens"]) -> "PatchTokens":
        """The images of several tables one after the other; several are copied into memory.

        Raises:
            ValueError: there is none, or they differ in width.
        """
        if not parts or len({part.width for part in parts}) != 1:
            raise ValueError(
                f"tokens: tables must have one width, got {[part.width for part in parts]}; give those of "
                "one model"
            )
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *[len(part.table_ND) for part in parts[:-1]]])
        return PatchTokens(
            np.concatenate([part.table_ND for part in parts]),
            np.concatenate([part.first_I + start for part, start in zip(parts, starts, strict=True)]),
            np.concatenate([part.count_I for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.first_I)

    @property
    def width(self) -> int:
        """D."""
        return int(self.table_ND.shape[1])

    def take(self, images: Int[np.ndarray, " S"] | Bool[np.ndarray, " I"]) -> "PatchTokens":
        """Some images (numbers or a mask), without copying a token."""
        return PatchTokens(self.table_ND, self.first_I[images], self.count_I[images])

    def pack(self, images: Int[np.ndarray, " S"]) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " S1"]]:
        """Tokens of some images in float32, end to end, and the offsets of the images in them."""
        offsets = np.concatenate([[0], self.count_I[images].cumsum()]).astype(np.int32)
        found = np.empty((int(offsets[-1]), self.width), np.float32)
        for (start, end), first in zip(
            pairwise(offsets.tolist()), self.first_I[images].tolist(), strict=True
        ):
            found[start:end] = self.table_ND[first : first + end - start]
        return found, offsets
