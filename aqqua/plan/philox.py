"""Counter-based random numbers: Philox4x32-10, the reference in NumPy.

Every draw of a plan is a pure function of (seed, image key, visit, purpose): no state, no order,
the same on every rank. Only + − × ÷ √ and table look-ups are applied to the draws, so the C++
planner can repeat them bit for bit.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Random123); the
known-answer vectors are in tests/plan/test_philox.py.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float64, UInt32, UInt64

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
MAX_COUNT = 4 << 16  # draws of one purpose: 2**16 blocks of four


class Purpose(IntEnum):
    """What a draw is for; 16 bits of the counter. Never renumber: it changes every plan."""

    VIEWS = 1
    REPEAT = 2
    MASK_CHOICE = 3
    MASK_BLOCKS = 4
    DROP_PATH = 5
    HIDE_SCALE = 6
    SPECKS = 7
    TURN = 8
    FINETUNE_ORDER = 9
    PATCH_SIDE = 12
    TOKEN_DROP = 13
    CLUSTER = 20
    CARBON_CLASS = 30
    CARBON_SIZE = 31
    CARBON_RELATION = 32
    COUNT = 33


def philox4x32(
    counter: tuple[UInt64[np.ndarray, "..."], ...], key: tuple[int, int]
) -> tuple[UInt64[np.ndarray, "..."], ...]:
    """Ten rounds. Counter words and results are 32-bit values held in uint64 arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def require_seed(operation: str, seed: int) -> None:
    """A seed is any 64 bits; csrc/arrays.hpp says the same words."""
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"{operation}: seed must be 0 to 2**64 - 1, got {seed}; set another seed")


def bits(
    seed: int,
    keys_I: UInt64[np.ndarray, " I"],
    visits_I: UInt64[np.ndarray, " I"],
    purpose: Purpose,
    count: int,
) -> UInt32[np.ndarray, "I count"]:
    """`count` random 32-bit words per image.

    Args:
        seed: of the run, 64 bits.
        keys_I: random key of each image (or of a view, lane, ...).
        visits_I: which visit of the image: epoch, with the copy number in the upper 8 bits; < 2**32.
        purpose: what the words are for; different purposes are independent.
        count: words per image, at most MAX_COUNT.

    Raises:
        ValueError: the seed or the count is outside its range.
    """
    require_seed("bits", seed)
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"bits: count must be 0 to {MAX_COUNT}, got {count}; draw under another purpose")
    n_blocks = -(-count // 4)
    block = (np.uint64(purpose) << np.uint64(16)) + np.arange(n_blocks, dtype=np.uint64)
    shape = (len(keys_I), n_blocks)
    counter = (
        np.broadcast_to((keys_I & _LOW)[:, None], shape),
        np.broadcast_to((keys_I >> _SHIFT)[:, None], shape),
        np.broadcast_to(visits_I.astype(np.uint64)[:, None], shape),
        np.broadcast_to(block[None, :], shape),
    )
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return np.stack(words, axis=-1).reshape(len(keys_I), 4 * n_blocks)[:, :count].astype(np.uint32)


def uniforms(
    seed: int,
    keys_I: UInt64[np.ndarray, " I"],
    visits_I: UInt64[np.ndarray, " I"],
    purpose: Purpose,
    count: int,
) -> Float64[np.ndarray, "I count"]:
    """`count` draws from [0, 1) per image: multiples of 2**-24, exact in float32 too."""
    return (bits(seed, keys_I, visits_I, purpose, count) >> np.uint32(8)) * 2.0**-24


def between(bounds: tuple[float, float], draw: np.ndarray) -> np.ndarray:
    """Draws from [0, 1) stretched over a range."""
    return bounds[0] + (bounds[1] - bounds[0]) * draw
