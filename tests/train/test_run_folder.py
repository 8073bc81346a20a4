"""A run's folder belongs to one process at a time, and a run that never began leaves none."""

import errno
import fcntl
from pathlib import Path

import pytest

from aqqua.train import folder as module
from aqqua.train.folder import LOCK, only_process


def test_a_second_process_is_kept_out_and_told(tmp_path):
    with (
        only_process(tmp_path / "run"),
        pytest.raises(ValueError, match="must be trained by one process"),
        only_process(tmp_path / "run"),
    ):
        pass


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="refused"), only_process(tmp_path / "run"):
        raise RuntimeError("refused")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "run").mkdir()
    with only_process(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_what_was_written_stays_with_its_lock(tmp_path):
    with only_process(tmp_path / "run"):
        (tmp_path / "run" / module.CONFIG).write_text("{}")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {LOCK, module.CONFIG}
    with only_process(tmp_path / "run"):
        pass
    assert {path.name for path in (tmp_path / "run").iterdir()} == {LOCK, module.CONFIG}


def test_a_lock_that_its_last_holder_took_away_is_none(tmp_path, monkeypatch):
    """The file is opened, then removed by the one before, then locked: the name needs a new file."""
    real, taken = fcntl.flock, []

    def flock(file: object, how: int) -> None:
        if not taken:
            taken.append((tmp_path / "run" / LOCK).unlink())
        real(file, how)

    monkeypatch.setattr(module.fcntl, "flock", flock)
    with only_process(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).exists()
        with pytest.raises(ValueError, match="which another one uses"), only_process(tmp_path / "run"):
            pass


def test_a_disk_without_locks_is_told_of_and_used(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked"), only_process(tmp_path / "run"):
        pass


def test_a_folder_of_something_else_is_refused_and_left(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("\\chapter{}")
    with pytest.raises(ValueError, match="which holds something else"), only_process(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
