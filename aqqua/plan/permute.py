"""A random order of n things that is never stored: a keyed Feistel permutation with cycle walking.

`permute` is served by C++ (aqqua._core); `permute_reference` is its specification. Memory does
not grow with n, any position costs O(1).

Source: Black & Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking).
"""

import numpy as np
from jaxtyping import UInt64

from aqqua import _core
from aqqua.plan.murmur import finaliser
from aqqua.plan.philox import require_seed

ROUNDS = 8


def permute(index_B: UInt64[np.ndarray, " B"], n: int, seed: int, stream: int) -> UInt64[np.ndarray, " B"]:
    """Images of `index_B` under the permutation of range(n) named by (seed, stream).

    Raises:
        ValueError: n is not 1 to 2**62, an index is not below n, they are no uint64 [B], or the seed or the
            stream is not 0 to 2**64 - 1.
    """
    return _core.permute(np.asarray(index_B, order="C"), n, seed, stream)


def permute_reference(
    index_B: UInt64[np.ndarray, " B"], n: int, seed: int, stream: int
) -> UInt64[np.ndarray, " B"]:
    """The specification of `permute`, in NumPy."""
    if not 1 <= n <= 1 << 62:
        raise ValueError(f"permute: n must be 1 to 2**62, got {n}; split the dataset")
    require_seed("permute", seed)
    if not 0 <= stream < 1 << 64:
        raise ValueError(f"permute: stream must be 0 to 2**64 - 1, got {stream}; number it anew")
    index = np.asarray(index_B)
    if index.dtype != np.uint64 or index.ndim != 1:
        raise ValueError(
            f"permute: index must be contiguous uint64 [{index.size}], got {index.dtype} "
            f"{list(index.shape)}; give whole numbers below n"
        )
    if len(index) and int(index.max()) >= n:
        raise ValueError(f"permute: every index must be below n, got {index.max()} of {n}; reduce it first")
    half_bits = max(1, -(-(n - 1).bit_length() // 2))
    keys = [_mix(_mix(seed & 0xFFFFFFFF) ^ _mix((seed >> 32) + 0x51ED) ^ _mix(stream & 0xFFFFFFFF, 3)
                 ^ _mix((stream >> 32) & 0xFFFFFFFF, 5) ^ _mix(i, 7)) for i in range(ROUNDS)]  # fmt: skip
    result = _feistel(index, half_bits, keys)
    while (outside := result >= n).any():
        result[outside] = _feistel(result[outside], half_bits, keys)
    return result


def _feistel(x: np.ndarray, half_bits: int, keys: list[int]) -> np.ndarray:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = x >> shift, x & mask
    for key in keys:
        left, right = right, left ^ (finaliser(right ^ np.uint64(key)) & mask)
    return (left << shift) | right


def _mix(value: int, salt: int = 0) -> int:
    return int(finaliser(np.array([(value + salt * 0x9E3779B9) & 0xFFFFFFFF], np.uint64))[0])
