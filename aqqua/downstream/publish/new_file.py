"""A file that is there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqqua.store.new_folder import flush


def require_no_file(out: Path, who: str) -> None:
    """
    Raises:
        ValueError: there is something at `out`.
    """
    if out.exists():
        raise ValueError(f"{who}: the output must not exist yet, got {out}; choose another name or remove it")


@contextmanager
def new_file(out: Path, who: str) -> Iterator[Path]:
    """A name beside `out` to write to; it becomes `out` when all went well, and goes away when not.

    Raises:
        ValueError: there is something at `out`.
        RuntimeError: the disk is full or failed.
    """
    require_no_file(out, who)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{os.getpid()}.partial.{out.name}")  # its ending stays: some writers look at it
    try:
        yield partial
        flush(partial)
        partial.replace(out)
    except OSError as error:
        raise RuntimeError(
            f"{who}: the disk must take the output, got {error}; free some space or choose another name"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
