"""Datasets whose files are damaged, for tests of those who read them."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from aqqua.store.read import Dataset


def damaged_copy(path: Path, copy: Path, blocks: Iterable[int]) -> Path:
    """A copy of a dataset with one byte of the pixels of each of these blocks flipped."""
    shutil.copytree(path, copy)
    dataset = Dataset.open(copy)
    for block in blocks:
        name, group = dataset.place(block)
        flip(copy / name, pixels_at(copy / name, group) + 100)
    return copy


def pixels_at(part: Path, group: int) -> int:
    """Where the first page of a row group's pixels begins, bytes from the start of the file."""
    columns = pq.ParquetFile(part).metadata.row_group(group)
    return int(columns.column(columns.num_columns - 1).data_page_offset)


def flip(file: Path, place: int, bit: int = 0) -> None:
    """Flip one bit of the byte at `place`."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)
