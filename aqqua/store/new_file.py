"""A file that is there whole or not at all. Test: tests/store/test_new_file.py."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqqua.store.new_folder import disk_failure, flush


def require_no_file(out: Path, verb: str, suffix: str = "") -> None:
    """
    Args:
        suffix: that the name must have, such as ".parquet"; "" is any.

    Raises:
        ValueError: there is something at `out`, or its name ends otherwise.
    """
    if suffix and out.suffix != suffix:
        raise ValueError(f"{verb}: the output must be named {suffix}, got {out}; rename it")
    if out.exists():
        raise ValueError(
            f"{verb}: the output must not exist yet, got {out}; choose another name or remove it"
        )


@contextmanager
def new_file(out: Path, verb: str, suffix: str = "") -> Iterator[Path]:
    """As `whole_file`, where nothing is yet.

    Raises:
        ValueError: there is something at `out`, or its name ends otherwise.
        RuntimeError: the disk is full or failed.
    """
    require_no_file(out, verb, suffix)
    with whole_file(out, verb) as partial:
        yield partial


@contextmanager
def whole_file(out: Path, verb: str) -> Iterator[Path]:
    """A name beside `out` to write to; it becomes `out` when all went well, and goes away when not.

    Args:
        verb: who makes it, for messages.

    Raises:
        RuntimeError: the disk is full or failed.
    """
    partial = out.with_name(f".{os.getpid()}.partial.{out.name}")  # its ending stays: some writers look at it
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        flush(partial)
        partial.replace(out)
    except OSError as error:
        raise disk_failure(error, verb) from error
    finally:
        partial.unlink(missing_ok=True)
