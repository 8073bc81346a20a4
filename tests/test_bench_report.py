"""bench/README.md is what bench/report.py makes of the committed rows, and its tables say what rows say."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    for name in ("report", "data_path", "choosing", "curation", "plots", "targets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("report")


def test_the_committed_page_is_of_the_committed_rows(report):
    assert (BENCH / "README.md").read_text() == report.report(), "run python bench/report.py"


def test_the_committed_plots_are_of_the_committed_rows(report):
    drawn = report.plots_of(BENCH / "results")
    assert {path.name: path.read_text() for path in (BENCH / "plots").iterdir()} == drawn, (
        "run bench/report.py"
    )


def test_a_plot_has_the_goal_the_gate_and_a_line_for_each_machine(report):
    plots = sys.modules["plots"]
    target = report.Target.model_validate(
        {"what": "a & b", "file": "f", "figure": "n", "unit": "× it", "goal": 4, "gate": 2}
    )
    points = [
        report.Point(value, f"2026-{i}", f"{i}" * 40, machine, Path())
        for i, (value, machine) in enumerate([(3, "old"), (5, "old"), (8, "new")])
    ]
    drawn = plots.drawing({"x": (target, points)})
    assert [drawn.count(part) for part in ("<circle", "<polyline", "stroke-dasharray")] == [3 + 2, 1, 2]
    assert "a &amp; b, × it" in drawn
    heights = [float(y) for y in re.findall(r'<circle cx="[^"]+" cy="([^"]+)" r="3"[^>]*><title>', drawn)]
    assert heights == sorted(heights, reverse=True)  # a larger figure stands higher
    left = [float(x) for x in re.findall(r'<circle cx="([^"]+)"[^>]*><title>', drawn)]
    assert left == sorted(left)


def test_the_page_says_of_every_target_what_became_of_it(report):
    page = report.wanted()
    for name, target in report.load_targets().items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert target.in_words() in line
        assert any(state in line for state in report.STATES)


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


def test_the_path_to_choose_follows_from_the_figures(report, tmp_path):
    def row(pixels: int, pillow: int, dali: int, rendered: int) -> str:
        speed = {
            "pixels, native": pixels, "files by Pillow, native": pillow, "files by DALI, native": dali,
            "all by DALI": rendered,
        }  # fmt: skip
        found = {name: {"images_per_core_s": value} for name, value in speed.items()}
        pages = {name: {"images_per_core_s": 9} for name in ("dali_1", "strict", "pillow")}
        about = {"input": "x.zip", "formats": ["JPEG"], "file_bytes_per_image": 2589, "commit": "c" * 40}
        return json.dumps(
            {**about, "decode_and_render": found, "pages": pages, "not_run": {"dali_mixed": "no GPU"}}
        )

    assert report.choosing(tmp_path) == ""
    (tmp_path / "dali.jsonl").write_text(row(1, 1, 1, 1) + "\n" + row(16_000, 4000, 8000, 400))
    page = report.choosing(tmp_path)
    assert "| x.zip (JPEG) | 2,589 | 16,000 | 4,000 | 8,000 | 400 | 9 | 9 | 9 | not run | ccccc" in page
    assert "`data.backend=dali` (2.00 times the other); stored pixels are 2.0 times as fast" in page
    assert "`data.renderer=dali` reaches 1/20 of the best" in page
    assert "On a GPU none of this has been measured" in page
    (tmp_path / "dali.jsonl").write_text(row(4000, 8000, 2000, 400))
    page = report.choosing(tmp_path)
    assert "`data.backend=parquet` (4.00 times the other); they are 2.0 times as fast as stored" in page


def test_only_folders_of_gpus_count(report, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "x.jsonl").write_text("{}")
    (tmp_path / "offline.jsonl").write_text("{}")
    assert report.on_gpus() == report.NO_GPU
