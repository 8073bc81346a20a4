"""What is freed stays in the process that asked for it, and goes back in any other."""

import subprocess
import sys

import pytest

from aqqua.train.heap import keep_freed_memory

CHILD = """
import ctypes, resource, sys
from aqqua.train.heap import keep_freed_memory

def faults(size=64 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    library.free(ctypes.memset(library.malloc(size), 1, size))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
ctypes.memset.restype = ctypes.c_void_p
kept = len(sys.argv) > 1 and keep_freed_memory({})
faults()
print(kept, faults())
"""


def child(*arguments):
    words = [sys.executable, "-c", CHILD, *arguments]
    kept, faults = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return kept == "True", int(faults)


def test_what_is_freed_is_taken_again_without_a_fault():
    kept, faults = child()
    assert not kept
    assert faults >= 32  # 64 MB in pages of 4 KB, or where a machine gives large ones of 2 MB
    kept, faults = child("keep")
    assert kept
    assert faults < 16


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_a_user_who_told_malloc_something_is_obeyed(name):
    assert not keep_freed_memory({name: "1"})
