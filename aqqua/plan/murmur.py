"""The 32-bit finaliser of MurmurHash3: every bit of a word moves every bit of the result.

Source: Appleby, smhasher, MurmurHash3.cpp, fmix32 (public domain). In C++: csrc/murmur.hpp.
Test: tests/plan/test_murmur.py.
"""

import numpy as np
from jaxtyping import UInt64

_MASK32 = np.uint64(0xFFFFFFFF)


def finaliser(words: UInt64[np.ndarray, "*any"]) -> UInt64[np.ndarray, "*any"]:
    """Of 32-bit words held in uint64; their upper bits are dropped."""
    x = words & _MASK32
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & _MASK32
    x = ((x ^ (x >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & _MASK32
    return x ^ (x >> np.uint64(16))
