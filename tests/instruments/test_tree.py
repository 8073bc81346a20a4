"""Hostile and broken inputs of aqqua.instruments.tree: refused with a reason, never opened, never fatal.

Over 300 lines: all attacks on one module in one file, so that a missing one shows.
"""

import contextlib
import io
import os
import pickle
import random
import stat
import struct
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aqqua.instruments import open_archives, tree
from aqqua.instruments.tree import open_tree

FILES = Path("/proc/self/fd")  # the open files of this process, on Linux


def make_zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return stream.getvalue()


def opened(folder: Path, data: bytes) -> tree.Tree:
    (folder / "in.zip").write_bytes(data)
    return open_tree(folder / "in.zip")


def reasons(found: tree.Tree) -> dict[str, str]:
    return {refusal.name: refusal.reason for refusal in found.refused}


def test_members_of_folders_and_nested_archives_are_one_listing(tmp_path: Path) -> None:
    inner = make_zip({"deep/c.png": b"c"})
    outer = make_zip({"inner.zip": inner, "./b.png": b"b"}, zipfile.ZIP_DEFLATED)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "outer.zip").write_bytes(outer)
    (tmp_path / "a, <1> é.png").write_bytes(b"a")
    (tmp_path / "._a.png").write_bytes(b"dust")
    (tmp_path / ".DS_Store").write_bytes(b"dust")
    found = open_tree(tmp_path)
    assert list(found.names()) == [
        "a, <1> é.png",
        "sub/outer.zip/b.png",
        "sub/outer.zip/inner.zip/deep/c.png",
    ]
    assert [found.read(name) for name in found.names()] == [b"a", b"b", b"c"]
    assert not found.refused


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "a/../../x.png", "a\\x.png", "C:/x.png", "x\ny.png"]
)
def test_unsafe_archive_names_are_refused(tmp_path: Path, name: str) -> None:
    found = opened(tmp_path, make_zip({name: b"x", "good.png": b"g"}))
    assert list(found.members) == ["good.png"]
    assert [r.reason for r in found.refused] == ["unsafe_path"]
    assert found.refused[0].name.isprintable()


def test_a_nul_in_an_archive_name_is_refused_though_zipfile_hides_it(tmp_path: Path) -> None:
    data = make_zip({"good.pngX.exe": b"g"}).replace(b"good.pngX.exe", b"good.png\0.exe")
    found = opened(tmp_path, data)
    assert not found.members
    assert list(reasons(found).values()) == ["unsafe_path"]


def test_over_long_names_are_refused(tmp_path: Path) -> None:
    found = opened(tmp_path, make_zip({"d/" * 600 + "x.png": b"x"}))
    assert [r.reason for r in found.refused] == ["unsafe_path"]
    assert len(found.refused[0].name) <= 1024


def test_links_are_refused_in_folders_and_archives(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "s.png").write_bytes(b"s")
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "file.png").symlink_to(outside / "s.png")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    found = open_tree(folder)
    assert not found.members
    assert reasons(found) == dict.fromkeys(["file.png", "folder", "pipe.png", "z.zip/link.png"], "link")


def test_a_file_that_became_a_link_or_pipe_or_vanished_is_not_read(tmp_path: Path) -> None:
    for name in ("link", "pipe", "gone"):
        (tmp_path / name).write_bytes(b"12")
    found = open_tree(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    for name in ("link", "pipe", "gone"):
        (tmp_path / name).unlink()
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "gone"):
        with pytest.raises(OSError, match=name):
            found.read(name)


def test_names_that_are_not_utf8_are_refused_printably(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(b"x")
    (tmp_path / "\x1b[2J.png").write_bytes(b"x")
    found = open_tree(tmp_path)
    assert not found.members
    assert reasons(found) == {"caf\\udce9.png": "unsafe_path", "\\x1b[2J.png": "unsafe_path"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    try:
        assert reasons(open_tree(tmp_path)) == {"closed": "io_error"}
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_fails_to_list_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "good.png").write_bytes(b"g")
    scandir = os.scandir

    def failing(path: Path) -> object:
        if Path(path).name == "bad":
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    found = open_tree(tmp_path)
    assert list(found.members) == ["good.png"]
    assert reasons(found) == {"bad": "io_error"}


def test_a_very_deep_folder_is_listed(tmp_path: Path) -> None:
    folders = [tmp_path / "/".join("d" * n) for n in range(1, 1200)]  # os.walk of 3.11 ends at about 1,000
    for folder in folders:
        folder.mkdir()
    try:
        (folders[-1] / "a.png").write_bytes(b"a")
        found = open_tree(tmp_path)
        assert [r.reason for r in found.refused] == ["unsafe_path"]  # over 1,024 bytes, but no crash
    finally:  # so does shutil.rmtree
        (folders[-1] / "a.png").unlink()
        for folder in reversed(folders):
            folder.rmdir()


def test_overlapping_members_are_a_bomb(tmp_path: Path) -> None:
    # CVE-2024-0450: many directory entries over one piece of data.
    data = make_zip({f"{n}.png": os.urandom(5000) for n in range(8)})
    directory = data.index(b"PK\1\2")
    patched = bytearray(data)
    at = directory
    while patched[at : at + 4] == b"PK\1\2":
        struct.pack_into("<II", patched, at + 20, 20_000, 20_000)
        at += 46 + sum(struct.unpack_from("<HHH", patched, at + 28))
    found = opened(tmp_path, bytes(patched))
    assert reasons(found) == {"in.zip": "archive_bomb"}
    assert not found.members


def test_a_high_ratio_is_a_bomb(tmp_path: Path) -> None:
    found = opened(tmp_path, make_zip({"zeros.png": bytes(20 << 20), "a.png": b"a"}, zipfile.ZIP_DEFLATED))
    assert reasons(found) == {"zeros.png": "archive_bomb"}
    assert list(found.members) == ["a.png"]


def test_archives_are_opened_three_deep_only(tmp_path: Path) -> None:
    data = make_zip({"a.png": b"a"})
    for _ in range(5):
        data = make_zip({"n.zip": data, "b.png": b"b"})
    found = opened(tmp_path, data)
    assert "n.zip/n.zip/b.png" in found.members
    assert reasons(found) == {"n.zip/n.zip/n.zip/n.zip": "archive_bomb"}


def test_all_nested_archives_together_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = make_zip({"a.png": bytes(1000)})
    monkeypatch.setattr(tree, "MAX_INFLATED_BYTES", 3 * len(inner))
    found = opened(tmp_path, make_zip({f"{n}.zip": inner for n in range(5)}, zipfile.ZIP_DEFLATED))
    assert reasons(found) == {"3.zip": "archive_bomb", "4.zip": "archive_bomb"}


def test_encrypted_and_unbounded_compression_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_zip({"secret.png": b"s"}))
    directory = data.index(b"PK\1\2")
    data[6] |= 1
    data[directory + 8] |= 1
    assert reasons(opened(tmp_path, bytes(data))) == {"secret.png": "bad_archive"}
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        found = opened(tmp_path, make_zip({"z.png": bytes(10_000)}, method))
        assert reasons(found) == {"z.png": "bad_archive"}


def test_the_same_name_twice_refuses_both(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"22")
    found = open_tree(tmp_path / "in.zip")
    assert not found.members
    assert [r.reason for r in found.refused] == ["duplicate_id", "duplicate_id"]


@pytest.mark.parametrize("declared", [10, 60_000])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_lying_size_never_gives_more_than_it_declares(tmp_path: Path, declared: int, method: int) -> None:
    data = bytearray(make_zip({"a.bin": b"x" * 30_000}, method))
    directory = data.index(b"PK\1\2")
    struct.pack_into("<I", data, directory + 24, declared)
    found = opened(tmp_path, bytes(data))
    with contextlib.suppress(zipfile.BadZipFile, EOFError, OSError):  # the checksum may tell
        assert len(found.read("a.bin")) <= declared


def test_bad_checksums_raise_what_readers_expect(tmp_path: Path) -> None:
    data = make_zip({"a.bin": b"hello hello hello"})
    found = opened(tmp_path, data.replace(b"hello hello hello", b"hello jello hello"))
    with pytest.raises(zipfile.BadZipFile):
        found.read("a.bin")


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    data = make_zip({"a.png": bytes(100)})
    for cut in (1, 50, len(data) // 2, len(data) - 3):
        (tmp_path / "cut.zip").write_bytes(data[:cut])
        with pytest.raises(ValueError, match="must be a zip"):
            open_tree(tmp_path / "cut.zip")
        assert reasons(open_tree(tmp_path)) == {"cut.zip": "bad_archive"}
    with pytest.raises(FileNotFoundError, match="must exist"):
        open_tree(tmp_path / "absent")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_pieces_of_a_member_equal_the_whole(tmp_path: Path, method: int) -> None:
    content = random.Random(1).randbytes(50_000)
    (tmp_path / "disk.bin").write_bytes(content)
    (tmp_path / "in.zip").write_bytes(make_zip({"a.bin": content, "b.bin": b"other"}, method))
    found = open_tree(tmp_path)
    assert found.read("in.zip/a.bin", 0, 10) == content[:10]
    assert found._inflated is None  # looking at the start of a large member stays cheap
    for name in ("disk.bin", "in.zip/a.bin"):
        for offset, length in ((0, 10), (49_990, 100), (60_000, 5), (123, None), (7, 0)):
            end = None if length is None else offset + length
            assert found.read(name, offset, length) == content[offset:end]
    assert (found._inflated is None) == (method == zipfile.ZIP_STORED)
    assert found.read("in.zip/b.bin", 1, 2) == b"th"


def test_few_archives_stay_open_and_threads_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_archives, "OPEN_ARCHIVES", 4)
    inner = make_zip({"a.bin": bytes(3000)}, zipfile.ZIP_DEFLATED)
    for n in range(40):
        method = zipfile.ZIP_STORED if n % 2 else zipfile.ZIP_DEFLATED
        (tmp_path / f"{n}.zip").write_bytes(make_zip({"i.zip": inner, "n.bin": b"%d" % n * 999}, method))
    before = len(list(FILES.iterdir())) if FILES.exists() else 0
    found = open_tree(tmp_path)
    names = [name for name in found.names() if name.endswith("n.bin")] * 5
    random.Random(2).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(found.read, names))
    assert contents == [b"%d" % int(name.split(".")[0]) * 999 for name in names]
    assert found.read("7.zip/i.zip/a.bin") == bytes(3000)
    assert len(found._archives._open) <= 4
    if before:
        assert len(list(FILES.iterdir())) <= before + 5


def test_a_stream_survives_the_closing_of_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_archives, "OPEN_ARCHIVES", 1)
    for name in "ab":
        (tmp_path / f"{name}.zip").write_bytes(make_zip({"x": name.encode() * 100_000}))
    found = open_tree(tmp_path)
    with found.open("a.zip/x") as stream:
        assert stream.read(10) == b"a" * 10
        assert found.read("b.zip/x") == b"b" * 100_000
        assert stream.read() == b"a" * 99_990


def test_a_tree_pickles_without_open_files_and_works_in_a_fork(tmp_path: Path) -> None:
    found = opened(tmp_path, make_zip({"a.bin": b"a" * 5000, "b.bin": b"b" * 5000}))
    assert found.read("a.bin")
    copy = pickle.loads(pickle.dumps(found))
    assert not copy._archives._open
    assert copy.read("b.bin") == b"b" * 5000
    assert copy.members == found.members
    assert isinstance(copy._archives.lock, type(threading.RLock()))
    found._archives._process = -1  # as after a fork: the archives of another process are not used
    stale = found._archives._open
    assert found.read("b.bin") == b"b" * 5000
    assert found._archives._open is not stale


def test_mutated_archives_are_listed_or_refused(tmp_path: Path) -> None:
    inner = make_zip({"i.png": b"i" * 50}, zipfile.ZIP_DEFLATED)
    seeds = [
        make_zip({"a.png": b"a" * 300, "n.zip": inner}, method)
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    ]
    rng = random.Random(3)
    for _ in range(600):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            found = opened(tmp_path, bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
        except ValueError:
            continue
        for name in found.members:
            with contextlib.suppress(OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
                assert len(found.read(name)) <= found.size(name)


def test_all_real_data_is_listed(real_data: Path) -> None:
    found = open_tree(real_data)
    assert len(found.members) > 26_000
    assert not found.refused
    assert not any("__MACOSX" in name or "/._" in name for name in found.members)
