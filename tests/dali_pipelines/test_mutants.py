"""5,000 damaged files: no crash, no hang, no bomb, and each is decoded, decoded strictly, or left empty."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

HERE = Path(__file__).parent
DEADLINE_S = 240  # takes some 12


def fate(count: int, *archives: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
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
    assert found["pipelines"] > 10  # some did reach DALI and ended a pipeline


@pytest.mark.slow
def test_mutants_of_real_files_too(real_data):
    archives = ["isiis-ndsb.zip", "pwssc.zip", "uvp6/uvpec.zip", "planktonimager/2020_10_21-short.zip"]
    found = fate(2000, *(real_data / name for name in archives))
    assert found["decoded"] + found["strict"] + found["blank"] == 2000
