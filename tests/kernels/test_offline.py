"""Every kernel, as training launches it, compiles for A100 and H100, fits the chip and spills nothing.

B200 (100) is in the committed table, made by the same script; compiling for it too would double the time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aqqua.kernels.offline import SHARED_LIMIT, every_launch

SCRIPT = Path(__file__).parents[2] / "bench" / "kernels" / "offline.py"
TABLE = Path(__file__).parents[2] / "bench" / "results" / "offline.jsonl"
ARCHITECTURES = (80, 90)
# Ops whose time is matrix products: they must reach the matrix units.
PRODUCTS = {"attention"}

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """In a process of its own: here Triton may have been imported as an interpreter."""
    words = [sys.executable, str(SCRIPT), "--architectures", *map(str, ARCHITECTURES)]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(900)
def test_every_launch_is_compiled(rows):
    wanted = {
        (op, launch.name, architecture)
        for op, launches in every_launch().items()
        for launch in launches
        for architecture in ARCHITECTURES
        if architecture in launch.architectures
    }
    assert {(row["op"], row["launch"], row["architecture"]) for row in rows} == wanted
    assert len(rows) == len(wanted)


def test_nothing_spills_beyond_its_bound(rows):
    found = [row for row in rows if row["spill_bytes"] > row["max_spill_bytes"]]
    assert not found
    assert all(0 < row["registers"] <= 255 for row in rows)


def test_shared_memory_fits_the_chip(rows):
    assert not [row for row in rows if row["shared_bytes"] > SHARED_LIMIT[row["architecture"]]]


def test_products_reach_the_matrix_units(rows):
    half = [row for row in rows if row["op"] in PRODUCTS and "fp32" not in row["launch"]]
    assert half
    assert not [row for row in half if row["matrix_instructions"] == 0]


def test_the_committed_table_is_of_these_launches():
    """It is made by hand, for all architectures: python bench/kernels/offline.py."""
    written = {(row["op"], row["launch"]) for row in map(json.loads, TABLE.read_text().splitlines())}
    assert written == {(op, launch.name) for op, launches in every_launch().items() for launch in launches}
