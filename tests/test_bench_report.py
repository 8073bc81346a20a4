"""bench/README.md is what bench/report.py makes of the committed rows, and its tables say what rows say."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    for name in ("report", "data_path"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("report")


def test_the_committed_page_is_of_the_committed_rows(report):
    assert (BENCH / "README.md").read_text() == report.report(), "run python bench/report.py"


def test_no_committed_row_is_of_a_changed_tree():
    for path in (BENCH / "results").rglob("*.jsonl"):
        for row in map(json.loads, path.read_text().splitlines()):
            assert "dirty" not in row.get("commit", ""), f"{path.name}: measure on a clean commit"


def test_a_run_on_a_gpu(report, tmp_path):
    timing = {
        "median_ms": 2.0,
        "low_ms": 1.9,
        "high_ms": 2.2,
        "peak_bytes": 3 * 2**20,
        "error": None,
        "host_ms": 0.1,
        "rounds": 50,
    }
    ours = {**timing, "median_ms": 0.5, "rounds": 7, "copy_share": 0.91, "error": 1e-4}
    rows = [
        {
            "device": "Made Up 9000", "copy_gb_s": 4300.0, "bf16_tflop_s": 790.0, "commit": "c" * 40,
            "versions": {"torch": "2.11", "triton": "3.6"},
        },
        {
            "kind": "case", "op": "optim", "case": "optim small",
            "forward": {"eager": timing, "triton": ours}, "both": {}, "not_run": {"liger": "not installed"},
        },
        {"kind": "not run", "op": "embed", "why": "no time"},
    ]  # fmt: skip
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    page = report.one_gpu(path)
    assert "Copy 4,300 GB/s, bfloat16 product 790 TFLOP/s. Commit cccccccccc, torch 2.11, triton 3.6" in page
    ours = "0.500 (1.900–2.200), 7 rounds | 4.00 | 3 | 91% |  |  | 0.10 | 1.0e-04 |"
    assert f"| optim small | forward | triton | {ours}" in page
    assert "| optim small | forward | eager | 2.000 (1.900–2.200) | 1.00 | 3 |  |  |  | 0.10 |  |" in page
    assert page.endswith("Not run:\n\n- embed: no time\n- optim small: liger: not installed\n")


def test_only_folders_of_gpus_count(report, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "x.jsonl").write_text("{}")
    (tmp_path / "offline.jsonl").write_text("{}")
    assert report.on_gpus() == report.NO_GPU
