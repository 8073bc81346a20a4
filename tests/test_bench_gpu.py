"""bench/gpu.py without a GPU: what is wrong is named and not timed, and time is kept to."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"
ABOUT = {"device": "Made Up 9000", "date": "2026-01-02T03:04Z", "commit": "c" * 40, "versions": {}}
LIMITS = {"copy_gb_s": 1000.0, "bf16_tflop_s": 100.0}


def script(monkeypatch, name):
    for folder in (BENCH / "kernels", BENCH / "data", BENCH):
        monkeypatch.syspath_prepend(folder)
    for stale in (name, "clock", "case", "measure"):
        monkeypatch.delitem(sys.modules, stale, raising=False)
    return importlib.import_module(name)


@pytest.fixture
def gpu_op(monkeypatch):
    """The script of one op, with a clock that says 1 ms for everything."""
    module = script(monkeypatch, "gpu_op")

    def clock(calls, **_):
        for call in calls.values():
            call()
        return {name: module.Timing(1.0, 0.9, 1.1, 0.2, 50, 2**20) for name in calls}, {}

    monkeypatch.setattr(module, "time_in_turn", clock)
    monkeypatch.setattr(module.torch.cuda, "empty_cache", lambda: None)
    return module


@pytest.fixture
def gpu(monkeypatch):
    module = script(monkeypatch, "gpu")
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(module, "environment", lambda: ABOUT)
    monkeypatch.setattr(module, "ceilings", lambda: LIMITS)
    return module


def refuse():
    raise RuntimeError("no such chip\nand more")


def case_of(gpu_op):
    x = torch.linspace(1, 2, 8)
    forward = {
        "eager": lambda: [x, x, x],
        "good": lambda: (x * (1 + 1e-6), x, x),
        "wrong": lambda: [x, x, x + 0.1],
        "hole": lambda: [x, torch.where(x == 1, torch.nan, x), x],
        "refuses": refuse,
    }
    return gpu_op.Case(
        "a case", forward, {"eager": lambda: x}, 10**9, 0, 0, 10**11, {"peer": "not installed"}
    )


def test_a_row_holds_what_is_right_and_says_what_is_not(gpu_op):
    row = gpu_op.row_of(case_of(gpu_op), end=0.0, limits=LIMITS)
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


def test_what_moves_is_compared_after_as_many_moves(gpu_op):
    """Steps of an optimizer: every backend has its own weights, each moved once."""
    weights = {name: torch.ones(3) for name in ("eager", "good")}
    calls = {name: lambda w=w: [w.mul_(2.0)] for name, w in weights.items()}
    errors, wrong = gpu_op.compare(calls)
    assert (errors, wrong) == ({"good": 0.0}, {})


def test_a_side_without_calls_is_empty(gpu_op):
    assert gpu_op.compare({}) == ({}, {})


def test_time_is_kept_to_and_a_broken_op_costs_no_other(gpu_op, monkeypatch):
    made = type(sys)("made")
    made.cases = lambda: iter([case_of(gpu_op), case_of(gpu_op)])
    monkeypatch.setitem(sys.modules, "made_op", made)
    kinds = [row["kind"] for row in gpu_op.rows_of("made_op", float("inf"), LIMITS)]
    assert kinds == ["case", "case"]
    (row,) = gpu_op.rows_of("made_op", 0.0, LIMITS)
    assert row == {"kind": "not run", "op": "made_op", "why": "the op's share of the time was used up"}
    (row,) = gpu_op.rows_of("no_such_op", float("inf"), LIMITS)
    assert row["why"].startswith("ModuleNotFoundError")

    def breaks():
        yield case_of(gpu_op)
        raise RuntimeError("out of memory")

    made.cases = breaks
    rows = list(gpu_op.rows_of("made_op", float("inf"), LIMITS))
    assert [row["kind"] for row in rows] == ["case", "not run"]
    assert rows[1]["why"] == "RuntimeError: out of memory"


def test_a_yardstick_that_fails_fails_alone(gpu_op):
    errors, wrong = gpu_op.compare({"eager": refuse, "good": lambda: torch.ones(2)})
    assert errors == {}
    assert wrong["good"] == "eager, the yardstick: RuntimeError: no such chip"


def test_what_rounds_on_the_way_may_differ_by_as_much(gpu_op):
    calls = {"eager": lambda: torch.ones(4), "ours": lambda: torch.full((4,), 1.01)}
    assert gpu_op.compare(calls)[1].keys() == {"ours"}
    assert gpu_op.compare(calls, torch.bfloat16)[1] == {}


def test_a_yardstick_may_be_left_untimed(gpu_op):
    case = dataclasses.replace(case_of(gpu_op), untimed=frozenset({"eager"}))
    assert set(gpu_op.row_of(case, 0.0, LIMITS)["forward"]) == {"good"}


def run(gpu, monkeypatch, folder, *ops):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--ops", *ops, "--out", str(folder)])
    gpu.main()
    (path,) = (folder / "made-up-9000").iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_op_has_a_process_and_what_ends_badly_is_named(gpu, monkeypatch, tmp_path):
    asked = []

    def child(words, timeout):
        asked.append((words[2], float(words[3]), timeout))
        if words[2] == "embed":
            raise gpu.subprocess.TimeoutExpired(words, timeout)
        with Path(words[5]).open("a") as file:
            file.write(json.dumps({"kind": "case", "op": words[2]}) + "\n")
        return gpu.subprocess.CompletedProcess(words, -11 if words[2] == "segment" else 0)

    monkeypatch.setattr(gpu.subprocess, "run", child)
    first, *rows = run(gpu, monkeypatch, tmp_path, "optim", "embed", "segment")
    assert first == {"kind": "environment", **ABOUT, **LIMITS}
    assert [(row["kind"], row["op"]) for row in rows] == [
        ("case", "optim"), ("not run", "embed"), ("case", "segment"), ("not run", "segment"),
    ]  # fmt: skip
    assert rows[1]["why"].startswith("ended after")
    assert rows[3]["why"] == "its process ended with -11"
    shares = {op: seconds for op, seconds, _ in asked}
    assert shares["optim"] == pytest.approx(420 * 0.08 / 0.17, rel=0.01)
    assert all(timeout == seconds + gpu.GRACE_S for _, seconds, timeout in asked)


def test_the_script_of_an_op_writes_each_row_as_it_is_known(gpu_op, monkeypatch, tmp_path, capsys):
    made = type(sys)("made")
    made.cases = lambda: iter([case_of(gpu_op)])
    monkeypatch.setitem(sys.modules, "made_op", made)
    monkeypatch.setattr(sys, "argv", ["gpu_op.py", "made_op", "9", json.dumps(LIMITS), str(tmp_path / "f")])
    gpu_op.main()
    (row,) = map(json.loads, (tmp_path / "f").read_text().splitlines())
    assert (row["kind"], row["op"], row["case"]) == ("case", "made_op", "a case")
    assert "forward ms: eager 1.000, good 1.000" in capsys.readouterr().out


def test_every_op_has_cases_and_a_share(gpu):
    scripts = {path.stem for path in (BENCH / "kernels").glob("*.py")}
    assert set(gpu.SHARES) == scripts - {"case", "clock", "offline"}
    assert sum(gpu.SHARES.values()) == pytest.approx(1.0)


def test_without_a_gpu_it_says_so(gpu, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="needs a CUDA device, got none"):
        gpu.main()
