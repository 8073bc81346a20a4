"""Datasets whose files are damaged, for tests of those who read them."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.store.manifest import file_sha256
from aqqua.store.read import Dataset


def unsealed(manifest: dict) -> dict:
    """A manifest as of datasets made before there were seals: what a test changes in it is taken for true."""
    return {key: value for key, value in manifest.items() if key != "seal"}


def damaged_copy(path: Path, copy: Path, blocks: Iterable[int], column: str = "pixels") -> Path:
    """A copy of a dataset with one byte of the pixels, or files, of each of these blocks flipped."""
    shutil.copytree(path, copy)
    dataset = Dataset.open(copy)
    for block in blocks:
        name, group = dataset.place(block)
        flip(copy / name, pixels_at(copy / name, group, column) + 100)
    return copy


def changed_copy(path: Path, copy: Path, change: Mapping[int, Callable[[bytes], bytes]]) -> Path:
    """A copy of a dataset with other bytes in some rows, and checksums that vouch for them."""
    shutil.copytree(path, copy)
    part = copy / "part-00000.parquet"
    table = pq.read_table(part)
    files = table["encoded"].to_pylist()
    for row, new in change.items():
        files[row] = new(files[row])
    place = table.schema.get_field_index("encoded")
    table = table.set_column(place, table.schema.field(place), pa.array(files, pa.large_binary()))
    facts = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}  # as aqqua does
    pq.write_table(table, part, row_group_size=64, **facts)
    manifest = json.loads((copy / "dataset.json").read_text())
    manifest["parts"][0] |= {"bytes": (part).stat().st_size, "sha256": file_sha256(part)}
    (copy / "dataset.json").write_text(json.dumps(unsealed(manifest)))
    return copy


def pixels_at(part: Path, group: int, column: str = "pixels") -> int:
    """Where the first page of a row group's pixels, or files, begins, bytes from the start of the file."""
    file = pq.ParquetFile(part)
    place = file.schema_arrow.names.index(column)
    while file.metadata.row_group(group).column(place).path_in_schema != column:
        place += 1  # a list counts its parts
    return int(file.metadata.row_group(group).column(place).data_page_offset)


def flip(file: Path, place: int, bit: int = 0) -> None:
    """Flip one bit of the byte at `place`."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)
