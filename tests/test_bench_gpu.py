"""bench/gpu.py without a GPU: what is wrong is named and not timed, and time is kept to."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"
ABOUT = {"device": "Made Up 9000", "date": "2026-01-02T03:04Z", "commit": "c" * 40, "versions": {}}
LIMITS = {"copy_gb_s": 1000.0, "bf16_tflop_s": 100.0}


@pytest.fixture
def gpu(monkeypatch):
    """The script, with a clock that says 1 ms for everything."""
    for folder in (BENCH / "kernels", BENCH / "data", BENCH):
        monkeypatch.syspath_prepend(folder)
    for name in ("gpu", "clock", "case", "measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("gpu")

    def clock(calls, **_):
        for call in calls.values():
            call()
        return {name: module.Timing(1.0, 0.9, 1.1, 50, 2**20) for name in calls}, {}

    monkeypatch.setattr(module, "time_in_turn", clock)
    monkeypatch.setattr(module.torch.cuda, "empty_cache", lambda: None)
    return module


def refuse():
    raise RuntimeError("no such chip\nand more")


def case_of(gpu):
    x = torch.linspace(1, 2, 8)
    forward = {
        "eager": lambda: [x, x, x],
        "good": lambda: (x * (1 + 1e-6), x, x),
        "wrong": lambda: [x, x, x + 0.1],
        "hole": lambda: [x, torch.where(x == 1, torch.nan, x), x],
        "refuses": refuse,
    }
    return gpu.Case("a case", forward, {"eager": lambda: x}, 10**9, 0, 0, 10**11, {"peer": "not installed"})


def test_a_row_holds_what_is_right_and_says_what_is_not(gpu):
    row = gpu.row_of(case_of(gpu), end=0.0, limits=LIMITS)
    assert set(row["forward"]) == {"eager", "good"}
    assert row["forward"]["good"]["error"] == pytest.approx(1e-6, rel=0.1)
    assert row["forward"]["eager"]["copy_share"] == 1.0  # 1 GB in 1 ms beside 1,000 GB/s
    assert row["both"]["eager"]["product_share"] == 1.0  # 1e11 operations in 1 ms beside 100 TFLOP/s
    assert "product_share" not in row["forward"]["eager"]
    assert row["not_run"] == {
        "peer": "not installed",
        "wrong (forward)": "wrong: error 0.065 beside eager, at most 0.001 is allowed",
        "hole (forward)": "wrong: error nan beside eager, at most 0.001 is allowed",
        "refuses (forward)": "RuntimeError: no such chip",
    }


def test_what_moves_is_compared_after_as_many_moves(gpu):
    """Steps of an optimizer: every backend has its own weights, each moved once."""
    weights = {name: torch.ones(3) for name in ("eager", "good")}
    calls = {name: lambda w=w: [w.mul_(2.0)] for name, w in weights.items()}
    errors, wrong = gpu.compare(calls)
    assert (errors, wrong) == ({"good": 0.0}, {})


def test_a_side_without_calls_is_empty(gpu):
    assert gpu.compare({}) == ({}, {})


def test_time_is_kept_to_and_a_broken_op_costs_no_other(gpu, monkeypatch):
    made = type(sys)("made")
    made.cases = lambda: iter([case_of(gpu), case_of(gpu)])
    monkeypatch.setitem(sys.modules, "made_op", made)
    kinds = [row["kind"] for row in gpu.rows_of("made_op", float("inf"), LIMITS)]
    assert kinds == ["case", "case"]
    (row,) = gpu.rows_of("made_op", 0.0, LIMITS)
    assert row == {"kind": "not run", "op": "made_op", "why": "the op's share of the time was used up"}
    (row,) = gpu.rows_of("no_such_op", float("inf"), LIMITS)
    assert row["why"].startswith("ModuleNotFoundError")

    def breaks():
        yield case_of(gpu)
        raise RuntimeError("out of memory")

    made.cases = breaks
    rows = list(gpu.rows_of("made_op", float("inf"), LIMITS))
    assert [row["kind"] for row in rows] == ["case", "not run"]
    assert rows[1]["why"] == "RuntimeError: out of memory"


def test_a_whole_run_writes_a_line_as_soon_as_it_is_known(gpu, monkeypatch, tmp_path, capsys):
    made = type(sys)("made")
    made.cases = lambda: iter([case_of(gpu)])
    monkeypatch.setitem(sys.modules, "optim", made)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "environment", lambda: ABOUT)
    monkeypatch.setattr(gpu, "ceilings", lambda: LIMITS)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--ops", "optim", "--out", str(tmp_path)])
    gpu.main()
    (path,) = (tmp_path / "made-up-9000").iterdir()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["environment", "case"]
    said = capsys.readouterr().out
    assert "copy 1000.0 GB/s" in said
    assert "forward ms: eager 1.000, good 1.000" in said


def test_every_op_has_cases_and_a_share(gpu):
    scripts = {path.stem for path in (BENCH / "kernels").glob("*.py")}
    assert set(gpu.SHARES) == scripts - {"case", "clock", "offline"}
    assert sum(gpu.SHARES.values()) == pytest.approx(1.0)


def test_without_a_gpu_it_says_so(gpu, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="needs a CUDA device, got none"):
        gpu.main()
