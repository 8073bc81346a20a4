"""Rows of a big Parquet file by the key of their image, without holding the file in memory.

The keys are held (16 bytes a row), the rest is read by row groups. Tables of one dataset are usually in one
order, so that each row group is read once; in any other order the answer is the same, only slower.
Test: tests/downstream/publish/test_keyed_table.py.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_HELD_GROUPS = 8


class KeyedTable:
    """A Parquet file with the columns `key` and `image_id`, one row per image."""

    def __init__(self, path: Path, columns: Sequence[str], who: str) -> None:
        """
        Args:
            path: the file.
            columns: wanted beside `image_id`.
            who: speaks in messages.

        Raises:
            ValueError: the file is no Parquet, lacks a column, or names an image twice.
        """
        self._path, self._who = path, who
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{who}: a table must be a Parquet file, got {path}: {error}") from error
        there = self._file.schema_arrow.names
        missing = [name for name in ("image_id", "key", *columns) if name not in there]
        if missing:
            raise ValueError(
                f"{who}: {path} must have the columns {missing}, got {there}; give a table that aqqua made"
            )
        self.columns = ["image_id", *columns]
        parts = [
            self._file.read_row_group(group, columns=["key"])["key"].to_numpy()
            for group in range(self._file.num_row_groups)
        ]
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        keys = np.concatenate([np.zeros(0, np.uint64), *parts]).astype(np.uint64)
        self._rows = np.argsort(keys, kind="stable")
        self._keys = keys[self._rows]
        twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if len(twice):
            first = self._rows[twice[0]] + 1
            raise ValueError(
                f"{who}: {path} must name every image once, got the one of row {first} again in row "
                f"{self._rows[twice[0] + 1] + 1}; make the table anew"
            )
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._empty = self._file.schema_arrow.empty_table().select(self.columns)

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, keys: np.ndarray, image_ids: Sequence[str]) -> pa.Table:
        """The rows of these images, in their order; all null where the table has none.

        Args:
            keys: uint64.
            image_ids: of the same images: a key that is another image's here is an error.

        Raises:
            ValueError: the table is of other images, or damaged.
        """
        at = np.searchsorted(self._keys, keys)
        found = at < len(self._keys)
        found[found] = self._keys[at[found]] == keys[found]
        rows = self._rows[at[found]]
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        used = np.unique(groups)
        tables = [self._group(int(group)) for group in used]
        together = pa.concat_tables([self._empty, *tables]).unify_dictionaries()
        first = np.cumsum([0, *(len(table) for table in tables)])
        places = first[np.searchsorted(used, groups)] + rows - self._starts[groups]
        indices = np.zeros(len(keys), np.int64)
        indices[found] = places
        taken = together.take(pa.array(indices, mask=~found))
        self._check(taken, image_ids)
        return taken

    def _group(self, number: int) -> pa.Table:
        if number not in self._groups:
            self._groups[number] = self._file.read_row_group(number, columns=self.columns)
        self._groups.move_to_end(number)
        while len(self._groups) > _HELD_GROUPS:
            self._groups.popitem(last=False)
        return self._groups[number].select(self.columns)

    def _check(self, taken: pa.Table, image_ids: Sequence[str]) -> None:
        for theirs, ours in zip(taken["image_id"].to_pylist(), image_ids, strict=True):
            if theirs is not None and theirs != ours:
                raise ValueError(
                    f"{self._who}: {self._path} must be of this dataset, got the image {theirs!r} for "
                    f"{ours!r}; "
                    "give the table made from it"
                )
