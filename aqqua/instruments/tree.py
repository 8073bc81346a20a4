"""One way to look into any input: a folder, a zip, zips inside zips. Nothing is extracted.

A `Tree` lists members by clean relative names ('/' between parts) and reads their bytes. An
archive inside a tree is shown as a folder of its own name: `cast1/Images.zip/a.png`. Whatever
is unsafe (links, devices, absolute names, '..', bombs) is never opened; it stands in
`Tree.refused` with its reason. Only stored and deflated zip members are read: zipfile inflates
bzip2 and LZMA without an upper bound, so a lying size there is a bomb.

Bounds: few archives are open and in memory at a time, whatever the tree holds
(open_archives.py). Threads may share a tree; a process that receives one (pickled or forked)
opens its own files. Tests: tests/instruments/test_tree.py.

Source of the caps: reliability of hostile archives, CVE-2024-0450 (overlapping zip members).
"""

import functools
import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from aqqua.instruments.member_names import MAX_NAME_BYTES, is_ignored, name_problem, printable, text_problem
from aqqua.instruments.open_archives import OpenArchives, open_regular

MAX_MEMBERS = 20_000_000  # of one tree
MAX_MEMBER_BYTES = 2 << 30  # one decompressed member
MAX_NESTED_BYTES = 1 << 30  # a compressed archive inside an archive is held in memory
MAX_INFLATED_BYTES = 16 << 30  # all compressed nested archives of one tree: bounds the listing time
MAX_DEPTH = 3  # archives inside archives
MAX_RATIO = 100  # decompressed / compressed, once a member is over RATIO_FLOOR_BYTES
RATIO_FLOOR_BYTES = 16 << 20
KEPT_MEMBER_BYTES = 256 << 20  # a compressed member read in pieces (IFCB .roi) is inflated once
READ_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
ARCHIVE_SUFFIXES = (".zip", ".zid")


@dataclass(frozen=True, slots=True)
class Member:
    """One readable file: its size in bytes and, inside an archive, the chain of names to it."""

    size: int
    chain: tuple[str, ...]  # path on disk or name in the outermost archive, then names inside


@dataclass(frozen=True, slots=True)
class Refusal:
    """A name that is never opened, with a reason code of aqqua.instruments.record."""

    name: str
    reason: str
    detail: str


@dataclass
class Tree:
    """A read-only view of one input. Opened by `open_tree`; pickles without its open files."""

    root: Path
    label: str  # short name of the input, the first part of every image id
    members: dict[str, Member] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    _archives: OpenArchives = field(default_factory=OpenArchives, repr=False, compare=False)
    _inflated: tuple[str, bytes] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        # Open files do not cross processes.
        return {**self.__dict__, "_archives": OpenArchives(), "_inflated": None}

    def names(self, *suffixes: str) -> Iterator[str]:
        """Names in sorted order; with suffixes ('.png'), only those, in any case."""
        wanted = tuple(s.lower() for s in suffixes)
        for name in self.members:
            if not wanted or name.lower().endswith(wanted):
                yield name

    def size(self, name: str) -> int:
        return self.members[name].size

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a member, or of a part of it. Shorter than asked where the member ends early.

        Raises:
            KeyError: no such member.
            OSError, zipfile.BadZipFile, zlib.error, EOFError: the disk or the archive is broken.
        """
        # A lying header can promise less than it holds: never read past the declared size.
        left = max(self.size(name) - offset, 0)
        wanted = left if length is None else min(length, left)
        kept = self._inflated  # one read of the field: another thread may replace it
        if kept is not None and kept[0] == name:
            return kept[1][offset : offset + wanted]
        if offset > 0 and self.size(name) <= KEPT_MEMBER_BYTES and self._is_compressed(name):
            # Seeking in a deflated member inflates it from its start again for every piece.
            with self.open(name) as file:
                kept = self._inflated = (name, file.read(self.size(name)))
            return kept[1][offset : offset + wanted]
        with self.open(name) as file:
            file.seek(offset)
            return file.read(wanted)

    def open(self, name: str) -> IO[bytes]:
        """An open binary stream of a member; the same errors as `read`."""
        chain = self.members[name].chain
        if len(chain) == 1 and self._is_folder:
            return open_regular(self.root / chain[0])
        with self._archives.lock:  # no other thread may close the archive in between
            return self._archive(chain[:-1]).open(chain[-1])

    @functools.cached_property
    def _is_folder(self) -> bool:
        return self.root.is_dir()

    def _is_compressed(self, name: str) -> bool:
        chain = self.members[name].chain
        if len(chain) == 1 and self._is_folder:
            return False
        return self._archive(chain[:-1]).getinfo(chain[-1]).compress_type != zipfile.ZIP_STORED

    def _archive(self, chain: tuple[str, ...]) -> zipfile.ZipFile:
        with self._archives.lock:
            archive = self._archives.get(chain)
            if archive is None:
                stream, inflated = self._archive_stream(chain)
                archive = self._archives.put(chain, stream, inflated)
            return archive

    def _archive_stream(self, chain: tuple[str, ...]) -> tuple[IO[bytes], int]:
        """Stream of an archive and the bytes of memory it takes."""
        if not chain:
            return self.root.open("rb"), 0
        if len(chain) == 1 and self._is_folder:
            return open_regular(self.root / chain[0]), 0
        outer = self._archive(chain[:-1])
        info = outer.getinfo(chain[-1])
        if info.compress_type == zipfile.ZIP_STORED:
            return outer.open(info), 0  # seekable in place
        with outer.open(info) as file:  # read(size), not read(): a lying size stays bounded
            return io.BytesIO(file.read(info.file_size)), info.file_size


def open_tree(root: Path, label: str | None = None) -> Tree:
    """List a folder or a zip, nested zips included.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the path is neither a folder nor a readable zip.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"ingest: the input must exist, got {root}; check the path")
    tree = Tree(root=root, label=label or _clean_label(root.name or root.resolve().name))
    if root.is_dir():
        _list_folder(tree)
    else:
        if not zipfile.is_zipfile(root):
            raise ValueError(
                f"ingest: an input file must be a zip that is whole, got {root}, which is none or cut short; "
                "copy it again, or give the folder an image lies in"
            )
        _list_archive(tree, chain=(), shown="")
    tree.members = dict(sorted(tree.members.items()))
    return tree


def _clean_label(name: str) -> str:
    return "".join(c if c.isprintable() and c not in '/\\<>"' else "_" for c in name) or "input"


def _list_folder(tree: Tree) -> None:
    """All regular files below the root. Own stack: os.walk ends deep trees with RecursionError."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(tree.root / folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:  # no permission, vanished, name too long: never skipped in silence
            _refuse(tree, folder or tree.root.name, "io_error", f"folder cannot be listed: {error.strerror}")
            continue
        for entry in entries:
            shown = f"{folder}/{entry.name}" if folder else entry.name
            if is_ignored(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(shown)
            else:
                _list_file(tree, entry, shown)


def _list_file(tree: Tree, entry: os.DirEntry[str], shown: str) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        _refuse(tree, shown, "io_error", f"vanished while listing: {error.strerror}")
        return
    problem = text_problem(shown)
    if stat.S_ISLNK(status.st_mode):
        _refuse(tree, shown, "link", "symbolic link")
    elif not stat.S_ISREG(status.st_mode):
        _refuse(tree, shown, "link", "not a regular file")
    elif problem:
        _refuse(tree, shown, "unsafe_path", problem)
    elif shown.lower().endswith(ARCHIVE_SUFFIXES) and status.st_size:
        _list_archive(tree, chain=(shown,), shown=shown)
    else:
        _add(tree, shown, Member(status.st_size, (shown,)))


def _list_archive(tree: Tree, chain: tuple[str, ...], shown: str) -> None:
    """Add an archive's members under `shown`/, or refuse the whole archive with one reason."""
    try:
        archive = tree._archive(chain)
        infos = archive.infolist()
        archive_bytes = _stream_bytes(archive.fp) if archive.fp else 0
    except OSError as error:
        _refuse(tree, shown or tree.root.name, "io_error", str(error))
        return
    except Exception as error:  # zipfile lets zlib.error, struct.error, UnicodeDecodeError, ... through
        _refuse(tree, shown or tree.root.name, "bad_archive", str(error) or type(error).__name__)
        return
    if sum(info.compress_size for info in infos) > archive_bytes:
        _refuse(
            tree,
            shown or tree.root.name,
            "archive_bomb",
            "members overlap: more bytes than the file",
        )
        return
    copies = Counter(info.filename for info in infos)
    for info in infos:
        if info.filename.endswith("/") or is_ignored(info.filename):  # is_dir() fails on an empty name
            continue
        prefix = f"{shown}/" if shown else ""
        if copies[info.filename] > 1:  # opened by name, so none of them can be told from the others
            _refuse(tree, prefix + info.filename, "duplicate_id", "the same name twice in one archive")
        else:
            _list_archived(tree, info, chain, prefix)


def _list_archived(tree: Tree, info: zipfile.ZipInfo, chain: tuple[str, ...], prefix: str) -> None:
    problem = name_problem(info.orig_filename)  # zipfile cuts `filename` at a NUL
    if problem:
        _refuse(tree, prefix + info.orig_filename, "unsafe_path", problem)
        return
    shown = prefix + PurePosixPath(info.filename).as_posix()  # './a.png' is a.png
    nested = info.filename.lower().endswith(ARCHIVE_SUFFIXES) and info.file_size > 0
    if stat.S_ISLNK(info.external_attr >> 16):
        _refuse(tree, shown, "link", "symbolic link in an archive")
    elif info.flag_bits & 1:
        _refuse(tree, shown, "bad_archive", "encrypted member")
    elif info.compress_type not in READ_METHODS:
        _refuse(tree, shown, "bad_archive", f"compression {info.compress_type}; zip with deflate")
    elif bomb := _bomb_problem(tree, info, nested, len(chain)):
        _refuse(tree, shown, "archive_bomb", bomb)
    elif nested:
        _list_archive(tree, (*chain, info.filename), shown)
    else:
        _add(tree, shown, Member(info.file_size, (*chain, info.filename)))


def _bomb_problem(tree: Tree, info: zipfile.ZipInfo, nested: bool, depth: int) -> str | None:
    size, compressed = info.file_size, info.compress_size
    if nested and depth >= MAX_DEPTH:
        return f"archives nested over {MAX_DEPTH} deep"
    if size > RATIO_FLOOR_BYTES and size > MAX_RATIO * max(compressed, 1):
        return f"{size} bytes from {compressed}"
    if nested and info.compress_type == zipfile.ZIP_STORED:
        return None  # read in place, and no larger than the file around it
    if size > (MAX_NESTED_BYTES if nested else MAX_MEMBER_BYTES):
        return f"{size} bytes in one member"
    if nested and (total := tree._archives.count_inflated(size)) > MAX_INFLATED_BYTES:
        return f"nested archives inflate to {total} bytes, at most {MAX_INFLATED_BYTES}"
    return None


def _add(tree: Tree, shown: str, member: Member) -> None:
    if shown in tree.members:
        _refuse(tree, shown, "duplicate_id", "the same name twice in one archive")
    elif len(tree.members) >= MAX_MEMBERS:
        raise ValueError(f"ingest: an input holds at most {MAX_MEMBERS} files; split {tree.root}")
    else:
        tree.members[shown] = member


def _refuse(tree: Tree, name: str, reason: str, detail: str) -> None:
    """Note a refusal, its name as printable UTF-8: it goes into tables and on terminals."""
    tree.refused.append(Refusal(printable(name)[:MAX_NAME_BYTES], reason, detail))


def _stream_bytes(stream: IO[bytes]) -> int:
    here = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(here)
    return end
