"""One LMDB file: checked, opened read-only once per process, and an image inside it."""

import os
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aqqua.instruments.image import decode
from aqqua.instruments.lmdb_frame import unpack_frame
from aqqua.instruments.record import RejectedInputError
from aqqua.instruments.tree import Tree

DATA_NAME = "data.mdb"
MAX_OPEN = 256  # databases held open per process, one file handle each
NEEDS_EXTRA = "reading LMDB needs the extra 'release'; pip install 'aqqua[release]'"

# First page of the file: 16 bytes of page header, then MDB_meta of a 64-bit build (lmdb mdb.c).
_META = struct.Struct("<II QQ IHH QQQQQ IHH QQQQQ QQ")
_META_AT = 16
_MAGIC = 0xBEEFC0DE

_handles: OrderedDict[Path, tuple[tuple[int, int], Any]] = OrderedDict()  # path -> version, database
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class LmdbImage:
    """The value of one key: a blosc2 frame, or the bytes of an image file."""

    member: str
    key: bytes
    is_frame: bool

    def load(self, tree: Tree) -> np.ndarray:
        return self.load_with_file(tree)[0]

    def load_with_file(self, tree: Tree) -> tuple[np.ndarray, bytes | None]:
        """The pixels, and the value where it is an image file."""
        database = open_database(tree, self.member)
        try:
            with database.begin() as view:
                value = view.get(self.key)
        except Exception as error:  # lmdb.Error has no common parent with OSError
            raise RejectedInputError("io_error", f"{type(error).__name__}: {error}") from error
        if value is None:
            raise RejectedInputError("missing_image", f"no value under key {self.key!r}")
        return (unpack_frame(value), None) if self.is_frame else (decode(value), value)


def open_database(tree: Tree, member: str) -> Any:
    """The database behind a member, read-only and without locks.

    Raises:
        RejectedInputError: unsupported_format inside a zip or without the extra; empty_file,
            bad_archive or io_error for a file that is not a whole database.
    """
    path = disk_path(tree, member)
    try:
        status = path.stat()
    except OSError as error:
        raise RejectedInputError("io_error", str(error)) from error
    version = status.st_ino, status.st_mtime_ns
    with _lock:
        known = _handles.get(path)
        if known is not None and known[0] != version:  # the file was written anew
            known[1].close()
        if known is None or known[0] != version:
            _handles[path] = version, _open(path)
        _handles.move_to_end(path)
        if len(_handles) > MAX_OPEN:
            _handles.popitem(last=False)  # closes when its last reader is done
        return _handles[path][1]


def disk_path(tree: Tree, member: str) -> Path:
    """Where the member lies on disk: LMDB maps its file into memory and cannot read from a zip."""
    chain = tree.members[member].chain
    if len(chain) != 1 or not tree.root.is_dir():
        raise RejectedInputError(
            "unsupported_format",
            "an LMDB must lie in a folder on disk, got one in a zip; unpack the zip first",
        )
    return tree.root / chain[0]


def check_file(path: Path) -> None:
    """Refuse what LMDB must not open: a map that ends early would kill the process (SIGBUS).

    Raises:
        RejectedInputError: empty_file, bad_archive, io_error.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = _meta(file.read(_META_AT + _META.size))
            file.seek(first["page"] if first else 0)
            second = _meta(file.read(_META_AT + _META.size))
    except OSError as error:
        raise RejectedInputError("io_error", str(error)) from error
    if size == 0:
        raise RejectedInputError("empty_file", "data.mdb holds 0 bytes")
    if first is None or second is None:
        raise RejectedInputError("bad_archive", f"{size} bytes that are not an LMDB of a 64-bit machine")
    newest = max(first, second, key=lambda meta: meta["transaction"])
    needed = (newest["last_page"] + 1) * first["page"]
    if size < needed:
        detail = f"data.mdb must hold {needed} bytes, got {size}; copy it again"
        raise RejectedInputError("bad_archive", detail)


def _meta(data: bytes) -> dict[str, int] | None:
    if len(data) < _META_AT + _META.size:
        return None
    fields = _META.unpack_from(data, _META_AT)
    page = fields[4]
    if fields[0] != _MAGIC or fields[1] != 1 or page & (page - 1) or not 512 <= page <= 65536:
        return None
    return {"page": page, "last_page": fields[-2], "transaction": fields[-1]}


def _open(path: Path) -> Any:
    check_file(path)
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise RejectedInputError("unsupported_format", NEEDS_EXTRA) from error
    try:
        return lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, create=False)
    except (lmdb.Error, OSError, MemoryError) as error:
        raise RejectedInputError("bad_archive", f"{type(error).__name__}: {error}") from error


def _forget_handles() -> None:
    """In a forked child: LMDB forbids use of the parent's handles, and a file opens once per process."""
    global _lock
    _lock = threading.Lock()
    while _handles:
        _handles.popitem()[1][1].close()


if hasattr(os, "register_at_fork"):  # where there is fork
    os.register_at_fork(after_in_child=_forget_handles)
