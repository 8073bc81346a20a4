"""An array that another thread writes to meanwhile: any answer or error will do, but the process lives."""

import subprocess
import sys

import pytest

SECONDS = 1.5
PROGRAM = """
import threading, time
import numpy as np
from aqqua import _core

stop = time.monotonic() + {seconds}
{given}

def write():
    while time.monotonic() < stop:
        array[:] = {other}
        array[:] = {first}

thread = threading.Thread(target=write)
thread.start()
calls = 0
while time.monotonic() < stop:
    try:
        {call}
    except ValueError:
        pass
    calls += 1
thread.join()
print(calls)
"""
CASES = {
    "arrange": {
        "given": "array = np.full(200_000, 3, np.int32)\n"
        "draws = np.random.default_rng(0).integers(1, 128, 200_000)",
        "first": "3",
        "other": "draws",
        "call": "_core.arrange(array, [64, 128])",
    },
    "plan_masks": {
        "given": "array = np.full((20_000, 2), 2, np.int32); keys = np.arange(20_000, dtype=np.uint64)\n"
        "aspects = np.exp(np.random.default_rng(0).uniform(-1, 1, 4096))",
        "first": "2",
        "other": "40",
        "call": "_core.plan_masks(grid_V2=array, keys_G=keys, visits_G=keys * 0, seed=1, odds=0.5, low=0.1, "
        "high=0.5, aspects_Q=aspects)",
    },
    "fill": {
        "given": "array = np.full(1_000_000, 3, np.int64)",
        "first": "3",
        "other": "100",
        "call": "_core.fill(array, 0, 1 << 20)",
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_second_writer_kills_nothing(name):
    program = PROGRAM.format(seconds=SECONDS, **CASES[name])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 5
