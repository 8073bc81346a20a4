"""Progress: sparse lines in a log, a live bar on a terminal, and never an error of its own."""

import io

import pytest

from aqqua import progress
from aqqua.progress import LOG_EVERY_S, Bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then_not_one_per_update(capsys, clock):
    with Bar("ingest", 1000, "images") as bar:
        for done in range(1000):
            clock[0] += 0.1
            bar.update(done, "fine")
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 100 / LOG_EVERY_S
    assert lines[0] == "ingest: 150 of 1000 images fine"


def test_work_of_unknown_length_is_counted(capsys, clock):
    with Bar("fetch", None, "bins") as bar:
        clock[0] += LOG_EVERY_S + 1
        bar.update(7)
    assert capsys.readouterr().err.split() == ["fetch:", "7", "bins"]


def test_each_stage_is_counted_by_itself(capsys, clock):
    with Bar("ingest", None, "images") as bar:
        for stage, total in (("reading", None), ("writing", 80)):
            for done in range(0, 81, 8):
                clock[0] += 3
                bar.stage(stage, "images")
                bar.update(done, total=total)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading: 40 images "
    assert lines[-1].startswith("writing: ")
    assert " of 80 images" in lines[-1]
    assert len(lines) <= 66 / LOG_EVERY_S


def test_nothing_goes_to_standard_output(capsys, clock):
    with Bar("ingest", 10) as bar:
        bar.say("headline")
        clock[0] += 60
        bar.update(3)
    got = capsys.readouterr()
    assert got.out == ""
    assert "headline" in got.err


def test_a_line_is_said_as_it_is(capsys):
    text = "[bold]not markup[/bold] 5:50 " + "x" * 300
    with Bar("ingest", 10) as bar:
        bar.say(text)
    assert capsys.readouterr().err == text + "\n"


def test_an_error_inside_passes_through(capsys):
    with pytest.raises(KeyError), Bar("ingest", 10):
        raise KeyError("inner")
    assert "inner" not in capsys.readouterr().err


def test_a_terminal_gets_a_live_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Bar("pretrain", 40, "images") as bar:
        bar.update(40, "loss 3.2")
        bar.stage("judging", "fits")
        bar.update(2, total=7)
        bar.say("a line that stays")
    written = terminal.getvalue()
    assert "pretrain" in written
    assert "judging" in written
    assert "2/7" in written
    assert "a line that stays" in written


def test_a_bar_that_is_not_shown_says_nothing(capsys, clock):
    with Bar("pretrain", 10, "images", shown=False) as bar:
        bar.say("headline")
        clock[0] += LOG_EVERY_S + 1
        bar.update(3)
    assert capsys.readouterr() == ("", "")
