"""A file is there whole or not at all, and nothing is written over unless it is asked for."""

import errno

import pytest

from aqqua.store.new_file import new_file, require_no_file, whole_file


def test_it_takes_its_name_when_all_went_well(tmp_path):
    out = tmp_path / "deep" / "a.txt"
    with new_file(out, "make", ".txt") as partial:
        partial.write_text("whole")
        assert not out.exists()
        assert partial.suffix == ".txt"
    assert out.read_text() == "whole"
    assert [path.name for path in out.parent.iterdir()] == ["a.txt"]


def half(make, out):
    with make(out, "make") as partial:
        partial.write_text("half")
        raise KeyError


@pytest.mark.parametrize("make", [new_file, whole_file])
def test_nothing_is_left_of_one_that_failed(tmp_path, make):
    with pytest.raises(KeyError):
        half(make, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays_until_the_new_one_is_whole(tmp_path):
    out = tmp_path / "a"
    out.write_text("old")
    with pytest.raises(ValueError, match="make: the output must not exist yet"), new_file(out, "make"):
        pass
    with pytest.raises(KeyError):
        half(whole_file, out)
    assert out.read_text() == "old"
    with whole_file(out, "make") as partial:
        partial.write_text("new")
    assert out.read_text() == "new"


def test_another_ending_is_refused(tmp_path):
    require_no_file(tmp_path / "a.csv", "make", ".csv")
    require_no_file(tmp_path / "a", "make")
    with pytest.raises(ValueError, match=r"make: the output must be named \.csv, got .*a\.txt; rename it"):
        require_no_file(tmp_path / "a.txt", "make", ".csv")


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "must have room"), (errno.EIO, "must be readable and writable")]
)
def test_a_disk_that_fails_is_told_of(tmp_path, number, says):
    with pytest.raises(RuntimeError, match=f"make: .*{says}"), new_file(tmp_path / "a", "make"):
        raise OSError(number, "said the disk")
    assert list(tmp_path.iterdir()) == []
