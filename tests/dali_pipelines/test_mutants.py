"""5,000 damaged files: no crash, no hang, no bomb, and each is decoded, decoded strictly, or left empty."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

HERE = Path(__file__).parent
PATH = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent)))  # the packages; tests/mutations.py
DEADLINE_S = 240  # takes some 12
SLOWEST_S = 30  # for a pack of 250 mutants; takes some 2


def fate(count: int, *archives: Path) -> dict[str, float]:
    # An arena for each thread would take 64 MB of the address space that mutants.py bounds.
    environment = {**os.environ, "PYTHONPATH": PATH, "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, str(HERE / "mutants.py"), str(count), *map(str, archives)]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, env=environment)
    assert done.returncode == 0, done.stderr[-2000:].decode(errors="replace")
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_five_thousand_drawn_mutants_are_all_counted():
    found = fate(5000)
    assert found["decoded"] + found["strict"] + found["blank"] == 5000
    assert found["decoded"] > 200
    assert found["blank"] > 1000
    assert found["slowest_s"] < SLOWEST_S
    assert found["pipelines"] > 10  # some did reach DALI and ended a pipeline


@pytest.mark.slow
def test_mutants_of_real_files_too(real_data):
    archives = ["isiis-ndsb.zip", "pwssc.zip", "uvp6/uvpec.zip", "planktonimager/2020_10_21-short.zip"]
    found = fate(2000, *(real_data / name for name in archives))
    assert found["decoded"] + found["strict"] + found["blank"] == 2000
    assert found["slowest_s"] < SLOWEST_S


def test_a_tile_bomb_gets_no_memory():
    """mutants.py ends with one, whose GB would not fit its 512 MB."""
    fate(1)


HEADERS = """
import numpy as np
from made_files import drawn_files
from dali_pipelines.decode import BATCH, Decoder, _Kind
from dali_pipelines.iterator import PackPipeline
files = [one for one in drawn_files() if one.format in ("PNG", "TIFF")] * BATCH
decoder, failed = Decoder(4), 0
for turn in range(40):
    cut = [one.data[: (9, 20, 40)[i % 3]] if i % 2 else one.data for i, one in enumerate(files)]
    batch = [np.frombuffer(data, np.uint8) for data in cut[turn : turn + BATCH]]
    kind = _Kind(1, 8, False)
    decoder._pipelines.setdefault(kind, PackPipeline(decoder._builder(kind)))
    try:
        decoder._pages(kind, batch)
    except RuntimeError:
        failed += 1
print(failed)
"""


def test_headers_that_cannot_be_read_do_not_crash_a_batch():
    """What dali_pipelines.header lets pass by mistake, as many at once as a batch holds."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    command = [sys.executable, "-c", HEADERS]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, env=environment)
    assert done.returncode == 0, done.stderr[-2000:].decode(errors="replace")
    assert int(done.stdout.split()[-1]) == 40
