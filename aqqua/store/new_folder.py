"""A folder that is there whole or not at all. Test: tests/store/test_write.py, test_columns.py."""

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def require_new(out: Path, verb: str) -> None:
    """
    Raises:
        ValueError: there is something at `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{verb}: the output must be a new or empty folder, got {out}; choose another --out")


@contextmanager
def new_folder(out: Path, verb: str) -> Iterator[Path]:
    """A folder beside `out` that takes its name when all went well, and goes away when not.

    All its files are flushed to the disk before the rename makes them what `out` is.

    Args:
        out: new, or an empty folder.
        verb: who makes it, for messages.

    Raises:
        ValueError: there is something at `out`.
        RuntimeError: the disk is full or failed.
    """
    require_new(out, verb)
    unique = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder = out.with_name(f"{out.name}.partial-{unique}")
    try:
        folder.mkdir(parents=True)
        yield folder
        _flush_all(folder)
        folder.rename(out)
        flush(out.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise disk_failure(error, verb) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def disk_failure(error: OSError, verb: str) -> RuntimeError:
    """What to tell a user whose disk is full or failed while `verb` made something."""
    full = error.errno in _NO_SPACE
    must = "the disk must have room for the output" if full else "files must be readable and writable"
    fix = "free some space" if full else "check the disk"
    return RuntimeError(f"{verb}: {must}, got {error}; {fix} or choose another --out")


def _flush_all(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
