"""Text and image files too large to hold in memory are refused by their size, unread."""

import os
from pathlib import Path

import pytest

from aqqua.instruments import ifcb, uvp6
from aqqua.instruments.companion import MAX_TEXT_BYTES, read_companion
from aqqua.instruments.image import MAX_FILE_BYTES, EncodedImage
from aqqua.instruments.record import ReadOptions, Record, Rejected, RejectedInputError
from aqqua.instruments.tree import Tree, open_tree


def sparse(path: Path, size: int) -> None:
    """A file of so many zeros that takes no room on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("a file over its cap was read")

    monkeypatch.setattr(Tree, "read", refuse)


@pytest.mark.usefixtures("unread")
def test_a_text_over_the_cap_is_a_bad_table(tmp_path: Path) -> None:
    sparse(tmp_path / "a.pid", MAX_TEXT_BYTES + 1)
    found = read_companion(open_tree(tmp_path), "a.pid")
    assert isinstance(found, Rejected)
    assert (found.source, found.reason) == ("a.pid", "bad_table")
    assert f"at most {MAX_TEXT_BYTES} bytes, got {MAX_TEXT_BYTES + 1}" in found.detail


def test_up_to_the_cap_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"12345")
    tree = open_tree(tmp_path)
    assert read_companion(tree, "a.txt", 5) == b"12345"
    assert isinstance(read_companion(tree, "a.txt", 4), Rejected)
    gone = read_companion(tree, "none.txt")
    assert isinstance(gone, Rejected)
    assert gone.reason == "io_error"


@pytest.mark.usefixtures("unread")
def test_an_image_file_over_the_cap_is_too_large(tmp_path: Path) -> None:
    sparse(tmp_path / "a.tif", MAX_FILE_BYTES + 1)
    for box in (None, (0, 0, 1, 1)):
        with pytest.raises(RejectedInputError, match="image_too_large"):
            EncodedImage("a.tif", box=box).load(open_tree(tmp_path))


def test_a_bin_with_a_huge_table_is_refused(tmp_path: Path) -> None:
    lid = "D20200102T030405_IFCB107"
    (tmp_path / f"{lid}.hdr").write_text("runTime: 1\n")
    (tmp_path / f"{lid}.roi").write_bytes(bytes(10))
    sparse(tmp_path / f"{lid}.adc", MAX_TEXT_BYTES + 1)
    tree = open_tree(tmp_path)
    found = list(ifcb.read(tree, ifcb.claim(tree), ReadOptions()))
    assert [f.reason for f in found if isinstance(f, Rejected)] == ["bad_table"]


def test_frames_of_a_profile_may_be_longer_than_other_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvp6, "MAX_LONG_TABLE_BYTES", 40)
    folder = tmp_path / "ecodata" / "p1" / "p1_Particule"
    sparse(folder / "particules.csv", 41)
    sparse(folder / "metadata.ini", 41)
    tree = open_tree(tmp_path)
    found = list(uvp6.read(tree, uvp6.claim(tree), ReadOptions()))
    refused = {f.source.rsplit("/", 1)[-1]: f.reason for f in found if isinstance(f, Rejected)}
    assert refused["particules.csv"] == "bad_table"
    assert not any(isinstance(f, Record) for f in found)
