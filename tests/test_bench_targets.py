"""bench/targets.toml and its reader: targets find their figures, the worst counts, goals and gates judge."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

BENCH = Path(__file__).parents[1] / "bench"
TABLE = {"what": "a figure", "file": "cpu/x.jsonl", "figure": "a.b", "unit": "× it", "goal": 2}


@pytest.fixture
def targets(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.delitem(sys.modules, "targets", raising=False)
    return importlib.import_module("targets")


def target(targets, **changed):
    return targets.Target.model_validate({**TABLE, **changed})


@pytest.mark.parametrize(
    ("figure", "row", "value"),
    [
        ("a.b", {"a": {"b": 3}}, 3),
        ("a.b / a.c", {"a": {"b": 3, "c": 2}}, 1.5),
        ('a."b.c"', {"a": {"b.c": 7}}, 7),
        ("a.*.b", {"a": {"x": {"b": 3}, "y": {"b": 2}, "z": {"c": 1}}}, 2),
        ("a.*.b", {"a": [{"b": 3}, {"b": 4}]}, 3),
        ("a.*.b / a.*.c", {"a": [{"b": 3, "c": 1}, {"b": 4, "c": 2}]}, 2),
        ("a.b", {"a": {"b": True}}, 1),
        ("a.b", {"a": {"b": None}}, None),
        ("a.b", {"a": 1}, None),
        ("a.b / c", {"a": {"b": 1}}, None),
    ],
)
def test_the_figure_of_a_row(targets, figure, row, value):
    assert target(targets, figure=figure).value(row) == value


def test_the_worst_is_the_largest_where_less_is_better(targets):
    row = {"a": [{"b": 3}, {"b": 4}]}
    assert target(targets, figure="a.*.b", lower_is_better=True).value(row) == 4


def test_rows_are_chosen_by_their_fields(targets):
    chosen = target(targets, figure="n", where={"kind": "case *", "size": 2})
    assert chosen.value({"n": 1, "kind": "case one", "size": 2}) == 1
    assert chosen.value({"n": 1, "kind": "other", "size": 2}) is None
    assert chosen.value({"n": 1, "kind": "case one", "size": 3}) is None
    assert chosen.value({"n": 1, "kind": "case one"}) is None


def test_goal_and_gate_judge(targets):
    gated = target(targets, gate=1.5)
    assert [gated.judge(value) for value in (1.49, 1.5, 2)] == ["under the gate", "missed", "met"]
    less = target(targets, lower_is_better=True)
    assert [less.judge(value) for value in (2, 2.1)] == ["met", "missed"]
    assert (gated.in_words(), less.in_words()) == ("≥ 2 × it", "≤ 2 × it")


def test_history_is_by_date_and_a_run_of_cases_is_its_worst(targets, tmp_path):
    def write(path: str, *rows: dict) -> None:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("".join(json.dumps(row) + "\n" for row in rows))

    about = {"device": "H200", "commit": "c" * 40}
    write("h200/2026-2.jsonl", {"date": "2026-2", **about}, {"n": 3}, {"n": 2}, {"other": 1})
    write("h200/2026-1.jsonl", {"date": "2026-1", **about}, {"n": 5})
    found = targets.history(target(targets, file="*/[0-9]*.jsonl", figure="n"), tmp_path)
    assert [(p.value, p.date, p.machine) for p in found] == [(5, "2026-1", "H200"), (2, "2026-2", "H200")]
    rows = [{"n": n, "date": f"2026-{n}", "commit": "d" * 40, "cpu": "EPYC", "device": "cpu"} for n in (2, 1)]
    write("cpu/x.jsonl", *rows)
    on_cpu = target(targets, figure="n")
    assert [(p.value, p.machine) for p in targets.history(on_cpu, tmp_path)] == [(1, "EPYC"), (2, "EPYC")]
    state, point = targets.newest(on_cpu, tmp_path)
    assert (state, point.value) == ("met", 2)
    assert targets.newest(on_cpu, tmp_path / "nowhere") == ("not measured", None)


def test_every_committed_file_of_rows_has_targets_that_find_their_figures(targets):
    """A figure renamed in a script, and not here, would silently be 'not measured' for ever."""
    known = targets.load_targets()
    for name, one in known.items():
        if any((BENCH / "results").glob(one.file)) and not one.where:
            assert targets.history(one, BENCH / "results"), f"{name}: no row of {one.file} has {one.figure}"
    measured = [name for name, one in known.items() if targets.history(one, BENCH / "results")]
    assert len(measured) > 20
    for one in known.values():
        assert one.peer or "×" not in one.unit, f"{one.what}: a ratio says beside whom"
        assert one.gate is None or one.gate < one.goal, one.what


def test_an_unknown_field_is_named(targets, tmp_path):
    (tmp_path / "t.toml").write_text('[x]\nwhat = "w"\nfile = "f"\nfigure = "a"\nunit = "u"\ngaol = 1\n')
    with pytest.raises(ValidationError, match="gaol"):
        targets.load_targets(tmp_path / "t.toml")
