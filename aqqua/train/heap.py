"""On a CPU, what a step frees is kept for the next one.

A tensor of more than 32 MB is mapped by the C library for itself and unmapped when it is freed, so that
every step faults all its pages in again, one processor waiting for the other: on two cores a ViT-tiny trains
8 % faster without (bench/train/vs_dinov2.py). Kept, a process stays as large as it was at its peak, which it
needs again a moment later. On a GPU PyTorch itself keeps what is freed.

Test: tests/train/test_heap.py.
"""

import ctypes
import os
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt: malloc.h
_TOLD = (
    "MALLOC_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
)  # environment by which a user tells malloc, or another one


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have the C library of this process never map a block for itself, nor give its heap back.

    Returns:
        Whether it does so: not where a user has told malloc something, and no other C library than glibc.
    """
    library = ctypes.CDLL(None)
    told = any(name.startswith(_TOLD) for name in environment)
    if told or not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))
