"""bench/gpuhours.py prints the table of GPU-hours it has always printed."""

import importlib
import re
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
# 3e9 images at MFU 0.5: TFLOP an image fixed and native, H100 and A100 hours fixed, and native.
GOLDEN = {
    "small": (0.164, 0.041, 277, 877, 68, 217),
    "base": (0.591, 0.146, 995, 3154, 247, 782),
    "large": (2.051, 0.511, 3458, 10_960, 859, 2723),
    "giant": (7.548, 1.879, 12_719, 40_317, 3166, 10_036),
}


@pytest.fixture
def gpuhours(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("gpuhours")


def cells(line: str) -> list[float]:
    return [float(cell.replace(",", "")) for cell in line.strip("| \n").split(" | ")[1:]]


def test_the_table(gpuhours, capsys):
    gpuhours.main([])
    head, columns, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("3e+09 images, MFU 0.5; assumed: a made-up law")
    assert columns.count("|") == 11
    assert [re.match(r"\| (\w+) \(K", row)[1] for row in rows] == list(GOLDEN)
    for row, (fixed, native, *hours) in zip(rows, GOLDEN.values(), strict=True):
        found = cells(row)
        assert found[:2] == pytest.approx([fixed, native], rel=0.03)
        assert found[3:7] == pytest.approx(hours, rel=0.03)
        assert found[7] > found[8] > 0.9 * found[5]  # PyTorch, our kernels; half of the peak is hard to reach


def test_of_measured_sizes(gpuhours, capsys):
    gpuhours.main(["--tokens", "isiis", "--patch-px", "8", "--registers", "4", "--images", "1e6"])
    head, _, _, small, *_ = capsys.readouterr().out.splitlines()
    assert "measured: 19,656 ISIIS images" in head
    assert cells(small)[2] > 2
