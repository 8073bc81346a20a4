"""bench/all.py: what this machine lacks is named and costs nothing, what fails costs no other."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"


@pytest.fixture
def everything(monkeypatch):
    """The script, without running anything: what it would start is written down."""
    monkeypatch.syspath_prepend(BENCH)
    for name in ("all", "targets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("all")
    monkeypatch.setattr(module, "made_dataset", lambda folder: folder / "made")
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    module.started = []

    def run(words, **how):
        module.started.append((Path(words[1]).relative_to(BENCH).as_posix(), words[2:], how))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(module.subprocess, "run", run)
    return module


def test_every_script_exists_and_every_benchmark_is_listed_or_told_why_not(everything):
    listed = {bench.script for bench in everything.BENCHES}
    assert all((BENCH / script).exists() for script in listed)
    appending = {
        p.relative_to(BENCH).as_posix() for p in BENCH.rglob("*.py") if "append_result(" in p.read_text()
    }
    # Of the explorer and of labels: they want an embedding or a browser, and have no goal.
    apart = {"data/measure.py", "data/candidates.py", "explore.py", "explore_page.py", "label_issues.py"}
    assert appending - listed == apart


def test_the_quick_form_is_short_and_its_rows_are_not_kept(everything, capsys):
    everything.main(["--quick"])
    started = {script: (words, how) for script, words, how in everything.started}
    words, how = started["data/plan.py"]
    assert words[-2:] == ["--seconds", "3"]
    assert how["env"]["AQQUA_BENCH_RESULTS"] == str(ROOT / "build" / "bench")
    assert {"gate.py", "data/render.py", "train/vs_dinov2.py"} <= started.keys()
    assert not {"report.py", "data/duplicates.py", "gpu.py"} & started.keys()
    assert "data/duplicates.py      not run: left out of the quick form" in capsys.readouterr().out


def test_in_full_with_what_the_user_has(everything, capsys):
    everything.main(["--dataset", "isiis", "--input", "x.zip"])
    started = [(script, words) for script, words, _ in everything.started]
    assert ("data/plan.py", ["--dataset", "isiis"]) in started
    assert ("data/ingest.py", ["--input", "x.zip"]) in started
    assert started[-1] == ("report.py", [])
    said = capsys.readouterr().out
    assert "gpu.py                  not run: a GPU" in said
    assert "curate_balance.py       not run: the public sets (--data)" in said


def test_what_fails_or_takes_too_long_is_named_and_costs_no_other(everything, monkeypatch):
    def run(words, **how):
        name = Path(words[1]).name
        everything.started.append(name)
        if name == "plan.py":
            raise subprocess.TimeoutExpired(words, how["timeout"])
        return subprocess.CompletedProcess(words, int(name == "gate.py"))

    monkeypatch.setattr(everything.subprocess, "run", run)
    with pytest.raises(SystemExit, match=r"^bench: gate.py failed; data/plan.py failed$"):
        everything.main(["--quick", "--only", "gate.py", "data/plan.py", "data/read.py"])
    assert everything.started == ["gate.py", "plan.py", "read.py"]


def test_a_figure_of_a_gpu_under_its_gate_is_refused(everything, tmp_path):
    folder = tmp_path / "h200"
    folder.mkdir()
    case = {
        "case": "attention L, 16 heads",
        "both": {name: {"median_ms": 2.0} for name in ("torch_varlen", "triton")},
    }
    about = {"device": "H200", "date": "2026-1", "commit": "c" * 40}
    (folder / "2026-1.jsonl").write_text(json.dumps(about) + "\n" + json.dumps(case) + "\n")
    assert list(everything.under_gates(tmp_path)) == [
        "attention_local must be at least 2 × varlen_attn, got 1"
    ]
