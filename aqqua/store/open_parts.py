"""Parquet files of a folder that stay open, for each thread its own. Test: tests/store/test_read.py."""

import threading
from collections import OrderedDict
from pathlib import Path

import pyarrow.parquet as pq

OPEN_PARTS = 64  # per thread: a file handle and about 1 MB of footer each


class OpenParts:
    """A Parquet file must not be shared between threads, and to open one costs the reading of its footer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._local = threading.local()

    def file(self, name: str) -> pq.ParquetFile:
        """The open part of this thread; every page's checksum is verified while it is read."""
        files: OrderedDict[str, pq.ParquetFile] | None = getattr(self._local, "files", None)
        if files is None:
            files = self._local.files = OrderedDict()
        if name in files:
            files.move_to_end(name)
            return files[name]
        files[name] = pq.ParquetFile(self._folder / name, page_checksum_verification=True)
        if len(files) > OPEN_PARTS:
            files.popitem(last=False)[1].close()
        return files[name]

    def forget(self, name: str) -> None:
        """Close this thread's handle of a part, if it has one: the next one opens the file again."""
        file = getattr(self._local, "files", {}).pop(name, None)
        if file is not None:
            file.close()
