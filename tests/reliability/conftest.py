"""The gate of reliability: short in every test run, in full with `-m reliability`, which writes the page."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from goals import PAGE, Result, page_with

sys.path.append(str(Path(__file__).parents[1] / "train"))  # crew, same_run

FULL = "reliability"  # the -m expression that asks for the whole of it


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """True for the full form; the short one takes seconds in all."""
    return request.config.getoption("markexpr") == FULL


@pytest.fixture(autouse=True)
def _row(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Ties a test to its row of the table of goals."""
    for mark in request.node.iter_markers(FULL):
        record_property("row", mark.args[0])


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes the figure of a test for the table; call it before the assertions, so that a failure shows."""
    return lambda figure: record_property("figure", figure)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("markexpr") != FULL:
        return
    kinds = ("passed", "failed", "xfailed")  # what is known to fail is not met either
    results = _results([report for kind in kinds for report in terminalreporter.stats.get(kind, [])])
    terminalreporter.section("reliability")
    for row, result in results.items():
        met = "met" if result.met else "NOT MET"
        terminalreporter.write_line(f"{row:4} {met:8} {result.seconds:6.1f} s  {result.figure}")
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


def _results(reports: list[pytest.TestReport]) -> dict[str, Result]:
    """Rows with the figures of all their tests; a row is met if all of these are."""
    found: dict[str, Result] = {}
    for report in reports:
        said = dict(report.user_properties)
        if "row" not in said:
            continue
        row, figure = str(said["row"]), str(said.get("figure", "failed before it measured"))
        before = found.get(row)
        if before is not None:
            figure = f"{before.figure}; {figure}"
        found[row] = Result(
            figure,
            report.passed and (before is None or before.met),
            report.duration + (0.0 if before is None else before.seconds),
        )
    return found
