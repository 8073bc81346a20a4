"""Turning a map so that it lies like an older one of the same images: two checkpoints become comparable.

UMAP's axes mean nothing. By the images that both maps have, the rotation or reflection is found that brings
them nearest (orthogonal Procrustes, Schönemann 1966); every point of the new map is then turned by it.
Letter key: N points, S shared ones. Test: tests/explore/atlas/test_align.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, UInt64

LEAST_SHARED = 3


@dataclass(frozen=True)
class Alignment:
    """How a map was turned."""

    turn_22: Float64[np.ndarray, "2 2"]  # orthogonal; a position p becomes p @ turn
    shared: int  # images in both maps
    disparity: float  # 0 the same but for size and place, 1 nothing in common; of the shared images


def align(
    xy_N2: Float[np.ndarray, "N 2"],
    key_N: UInt64[np.ndarray, " N"],
    old_xy_M2: Float[np.ndarray, "M 2"],
    old_key_M: UInt64[np.ndarray, " M"],
) -> Alignment:
    """The turn of a map towards an older one.

    Raises:
        ValueError: they share fewer than three images, or all of these lie in one place.
    """
    _, new_S, old_S = np.intersect1d(key_N, old_key_M, return_indices=True)
    if len(new_S) < LEAST_SHARED:
        raise ValueError(
            f"atlas: maps must share at least {LEAST_SHARED} images to be aligned, got {len(new_S)}; give an "
            "older atlas of the same dataset, or none"
        )
    new_S2, old_S2 = _standard(xy_N2[new_S]), _standard(old_xy_M2[old_S])
    left, strength, right = np.linalg.svd(new_S2.T @ old_S2)
    return Alignment(left @ right, len(new_S), float(max(1.0 - strength.sum() ** 2, 0.0)))


def _standard(xy_S2: np.ndarray) -> Float64[np.ndarray, "S 2"]:
    """About their mean, sum of squares one."""
    centred = xy_S2.astype(np.float64) - xy_S2.mean(axis=0, dtype=np.float64)
    size = np.linalg.norm(centred)
    if size == 0:
        raise ValueError(
            "atlas: shared images must lie in different places to be aligned, got one place; give no older "
            "atlas"
        )
    found: np.ndarray = centred / size
    return found
