"""The zip archives a Tree has open: few at a time, and its own in every process."""

import os
import stat
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO

OPEN_ARCHIVES = 64  # well under the usual 1,024 files of a process
INFLATED_BYTES = 1 << 30  # nested archives in memory at one time, the newest always


class OpenArchives:
    """The archives in use, closed when others are used more recently; its own in every process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: OrderedDict[tuple[str, ...], tuple[zipfile.ZipFile, int]] = OrderedDict()
        self._process = os.getpid()
        self._inflated_in_all = 0

    def count_inflated(self, size: int) -> int:
        """Bytes of all compressed nested archives listed so far, this one included."""
        self._inflated_in_all += size
        return self._inflated_in_all

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()

    def get(self, chain: tuple[str, ...]) -> zipfile.ZipFile | None:
        if self._process != os.getpid():  # forked: these files share their position with the parent
            self._open, self._process = OrderedDict(), os.getpid()
        if chain not in self._open:
            return None
        self._open.move_to_end(chain)
        return self._open[chain][0]

    def put(self, chain: tuple[str, ...], stream: IO[bytes], inflated: int) -> zipfile.ZipFile:
        """Open the archive in a stream, which then belongs to it; `inflated` bytes of it are in memory."""
        try:
            archive = zipfile.ZipFile(stream)
        except BaseException:
            stream.close()
            raise
        # zipfile closes only files it opened itself. This makes the stream one of those: it is
        # closed with the archive, but not before the last member being read from it.
        archive._filePassed = 0  # type: ignore[attr-defined]
        self._open[chain] = (archive, inflated)
        while len(self._open) > 1 and self._is_over():
            _, (oldest, _) = self._open.popitem(last=False)
            oldest.close()
        return archive

    def _is_over(self) -> bool:
        return len(self._open) > OPEN_ARCHIVES or sum(n for _, n in self._open.values()) > INFLATED_BYTES


def open_regular(path: Path) -> IO[bytes]:
    """Open a file that was a regular one when listed, and refuse what has since become a link or pipe."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # 0 on systems without them
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"tree: {path} must still be a regular file; ingest again")
    return os.fdopen(descriptor, "rb")
