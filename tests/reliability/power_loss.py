"""What a disk may hold after the power went: the log of operations replayed, unflushed changes kept or lost.

The model is as harsh as POSIX allows: a file keeps the bytes of its last fsync, or some of those written
since; each name in a folder is as at the folder's last fsync, or as it became since, each by itself.
Source: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, section 2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

Log = list[tuple[str, Any]]


@dataclass
class File:
    data: bytes = b""
    flushed: bytes = b""


@dataclass
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    flushed: dict[str, File | Folder] = field(default_factory=dict)


class Replay:
    """The operations of a log below a folder, done on a disk that remembers what was flushed."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = PurePosixPath(root), self._read(root)

    def _read(self, path: Path) -> Folder:
        """What is there before the log begins is on the disk for good."""
        names: dict[str, File | Folder] = {
            entry.name: self._read(entry) if entry.is_dir() else File(entry.read_bytes(), entry.read_bytes())
            for entry in path.iterdir()
        }
        return Folder(names, dict(names))

    def do(self, name: str, about: Any) -> None:
        if name == "fsync":
            self._flush(self._find(about))
        elif name == "create":
            self._parent(about).names[PurePosixPath(about).name] = File()
        elif name == "write":
            path, data = about
            self._parent(path).names[PurePosixPath(path).name] = File(data)
        elif name == "mkdir":
            self._parent(about[0]).names[PurePosixPath(about[0]).name] = Folder()
        elif name in ("rename", "replace"):
            moved = self._parent(about[0]).names.pop(PurePosixPath(about[0]).name)
            self._parent(about[1]).names[PurePosixPath(about[1]).name] = moved
        elif name in ("unlink", "rmdir"):
            self._parent(about[0]).names.pop(PurePosixPath(about[0]).name)

    def _find(self, path: str) -> File | Folder:
        node: File | Folder = self.top
        for part in PurePosixPath(path).relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.names[part]
        return node

    def _parent(self, path: str) -> Folder:
        found = self._find(str(PurePosixPath(path).parent))
        assert isinstance(found, Folder)
        return found

    def _flush(self, node: File | Folder) -> None:
        if isinstance(node, File):
            node.flushed = node.data
        else:
            node.flushed = dict(node.names)

    def write_out(self, to: Path, keeps: Callable[[], bool]) -> None:
        """One state the disk may be in; `keeps` draws for each unflushed change whether it stayed."""
        self._write_folder(self.top, to, keeps)

    def _write_folder(self, folder: Folder, to: Path, keeps: Callable[[], bool]) -> None:
        to.mkdir()
        for name in sorted(folder.names.keys() | folder.flushed.keys()):
            now, before = folder.names.get(name), folder.flushed.get(name)
            node = now if now is before or keeps() else before
            if isinstance(node, Folder):
                self._write_folder(node, to / name, keeps)
            elif node is not None:
                (to / name).write_bytes(_bytes_left(node, keeps))


def _bytes_left(file: File, keeps: Callable[[], bool]) -> bytes:
    if file.data == file.flushed or keeps():
        return file.data
    return file.flushed if keeps() else file.data[: len(file.data) // 2]


def losses(seed: int, count: int) -> Iterable[Callable[[], bool]]:
    """Nothing unflushed stayed, all of it did, then `count` draws between."""
    yield lambda: False
    yield lambda: True
    for number in range(count):
        draw = random.Random(1000 * seed + number)
        yield lambda draw=draw: draw.random() < 0.5  # type: ignore[misc]
