"""Every call by which a save touches the disk, counted: any of them can crash, fail or be written down.

Patched are the calls of `os` and `io.open` that pathlib and shutil make, the writes of a file opened by
it, and safetensors' `save_file` as one write.
"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aqqua.train import checkpoint

OF_OS = ("open", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir")
KILLED = 137  # what a shell says of a process that kill -9 ended
Act = Callable[[], Any]


def nothing_special(call: Act, _halfway: Act) -> Any:
    return call()


def crash_before(_call: Act, _halfway: Act) -> None:
    os._exit(KILLED)


def crash_halfway(_call: Act, halfway: Act) -> None:
    halfway()
    os._exit(KILLED)


def crash_after(call: Act, _halfway: Act) -> None:
    try:
        call()
    finally:  # also if it raised, as a look for a file that is not there does
        os._exit(KILLED)


def input_output_error(_call: Act, halfway: Act) -> None:
    halfway()
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@dataclass
class Disk:
    """Counts operations; at number `at`, and with `stays` at all later ones, `fault` happens instead."""

    at: int = 0  # 1 is the first; 0: never
    fault: Callable[[Act, Act], Any] = nothing_special
    stays: bool = False
    log: list[tuple[str, Any]] = field(default_factory=list)  # operation and what it was done to

    def do(self, name: str, about: Any, call: Act, halfway: Act) -> Any:
        self.log.append((name, about))
        number = len(self.log)
        hit = self.at and (number >= self.at if self.stays else number == self.at)
        return self.fault(call, halfway) if hit else call()

    @contextmanager
    def installed(self) -> Iterator["Disk"]:
        with pytest.MonkeyPatch.context() as patch:
            for name in OF_OS:
                patch.setattr(os, name, self._of_os(name, getattr(os, name)))
            patch.setattr(io, "open", self._opener(io.open))
            patch.setattr(checkpoint, "save_file", self._save_file(checkpoint.save_file))
            yield self

    def _of_os(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            about: Any = tuple(map(str, args))
            if name == "fsync":
                about = _open_path(args[0])
            elif kwargs.get("dir_fd") is not None:  # rmtree goes by open folders
                about = (f"{_open_path(kwargs['dir_fd'])}/{args[0]}",)
            return self.do(name, about, lambda: call(*args, **kwargs), lambda: None)

        return counted

    def _opener(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            kind = "create" if "w" in mode else "look"
            opened = self.do(kind, str(file), lambda: call(file, mode, *args, **kwargs), lambda: None)
            if kind == "create":
                self._count_writes(opened)
            return opened

        return counted

    def _count_writes(self, opened: Any) -> None:
        write = opened.write

        def some(text: str) -> int:
            done = write(text)
            opened.flush()
            return int(done)

        def counted(text: str) -> Any:
            about = (opened.name, text.encode())
            return self.do("write", about, lambda: some(text), lambda: some(text[: len(text) // 2]))

        opened.write = counted

    def _save_file(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensors: Any, path: Path) -> None:
            def halfway() -> None:
                call(tensors, path)
                os.truncate(path, path.stat().st_size // 2)

            def whole() -> None:
                call(tensors, path)
                with open(path, "rb") as file:  # noqa: PTH123 - the one open that is not counted
                    self.log[place] = ("write", (str(path), file.read()))

            place = len(self.log)
            self.do("write", (str(path), b""), whole, halfway)

        return counted


def _open_path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())
