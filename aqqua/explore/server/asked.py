"""An atlas under questions: DuckDB over its Parquet file, shut off from everything else.

DuckDB (connection.py) holds nothing of the table in memory but what a question needs; columns that a page
asked for lately are kept.
Test: tests/explore/server/test_asked.py.
"""

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32, Int64, UInt8

from aqqua.explore.atlas.table import FOREIGN, NEIGHBOURS, Atlas
from aqqua.explore.server.columns import (
    MS_PER_DAY,
    NAMES,
    TIME,
    Values,
    histogram,
    kind_of,
    require_column,
    shown_columns,
    values_of,
)
from aqqua.explore.server.connection import NEAR, NOT_ASKED, connect
from aqqua.explore.server.filters import condition
from aqqua.explore.server.predicate import require_predicate

WHO = "explore"
NONE = 4294967295  # a neighbour that is not there
MOST_FOUND = 200  # of a search
_KEPT = 24  # columns in memory


class AskedAtlas:
    """An atlas for many threads: every question waits for the one before."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ValueError: the file is no atlas.
            RuntimeError: DuckDB is not installed.
        """
        self.atlas = Atlas.open(path)
        self._lock = threading.RLock()
        self._connection = connect(path)
        self._file = pq.ParquetFile(path)
        about = self._file.metadata
        self._first = np.cumsum([0, *(about.row_group(g).num_rows for g in range(about.num_row_groups))])
        asked = [name for name in self.atlas.columns if name not in NOT_ASKED]
        self.kinds = {f.name: kind_of(f) for f in pq.read_schema(path) if f.name in asked}
        self._values: OrderedDict[str, Values] = OrderedDict()

    @property
    def rows(self) -> int:
        """Points."""
        return self.atlas.rows

    def about(self) -> dict[str, Any]:
        """What a page says of it; JSON."""
        return {
            "name": self.atlas.path.stem,
            "rows": self.rows,
            "columns": [c for c in shown_columns(self.atlas, self.kinds) if c["name"] not in self._unknown],
            "facts": self.atlas.facts,
        }

    @cached_property
    def points(self) -> tuple[Float32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """x and y of all points, −1 to 1, 0 where they are not finite."""
        with self._lock:
            table = self.atlas.table(["x", "y"])
        x, y = (np.clip(np.nan_to_num(table[c].to_numpy()), -1, 1).astype(np.float32) for c in "xy")
        return x, y

    def values(self, name: str) -> Values:
        """A column of all points.

        Raises:
            ValueError: there is no such column.
        """
        require_column(name, self.kinds, WHO)
        with self._lock:
            if name not in self._values:
                self._values[name] = values_of(self.atlas.table([name])[name], self.kinds[name])
                if len(self._values) > _KEPT:
                    self._values.popitem(last=False)
            self._values.move_to_end(name)
            return self._values[name]

    def kept(self, filters: list[dict[str, Any]]) -> Int64[np.ndarray, " K"]:
        """Rows that pass all filters, in order.

        Raises:
            ValueError: a filter is none.
        """
        where, bound = condition(filters, self.kinds)
        return self._rows(f"SELECT row FROM atlas WHERE {where}", bound)

    def where(self, predicate: str) -> Int64[np.ndarray, " K"]:
        """Rows for which a condition in SQL holds, in order.

        Raises:
            ValueError: it is no harmless condition.
        """
        with self._lock:
            text = require_predicate(self._connection, predicate, list(self.kinds))
        return self._rows(f"SELECT row FROM atlas WHERE ({text}\n)", [])

    def histogram(self, name: str, filters: list[dict[str, Any]]) -> dict[str, Any]:
        """Counts of all points and of those that pass the filters; JSON.

        Raises:
            ValueError: there is no such column, or a filter is none.
        """
        return histogram(self.values(name), self.kept(filters) if filters else None)

    def thumbnails(self, rows: Sequence[int]) -> list[bytes]:
        """Encoded pictures of some points.

        Raises:
            ValueError: there is no such row.
        """
        with self._lock:
            return self.atlas.thumbnails(rows)

    def ids(self, rows: Sequence[int]) -> list[str]:
        """Ids of some points.

        Raises:
            ValueError: there is no such row.
        """
        if len(rows) and not 0 <= min(rows) <= max(rows) < self.rows:
            bad = next(r for r in rows if not 0 <= r < self.rows)
            raise ValueError(f"{WHO}: a row must be 0 to {self.rows - 1}, got {bad}; give another")
        return [self._ids[row].as_py() for row in rows]

    def key(self, row: int) -> int:
        """Of a point's image, as in its dataset.

        Raises:
            ValueError: there is no such row.
        """
        with self._lock:
            return int(self._one(row, ["key"])["key"][0].as_py())

    def details(self, row: int) -> dict[str, Any]:
        """All that is known of a point; JSON: times as text, what is not finite as null.

        Raises:
            ValueError: there is no such row.
        """
        names = [column["name"] for column in self.about()["columns"]]
        chosen = ", ".join(_as_json(name, self.kinds[name]) for name in names)
        with self._lock:
            image_id = self._one(row, ["image_id"])["image_id"][0].as_py()
            told = self._asked(
                f"SELECT {chosen} FROM atlas WHERE row = ?", [row], lambda found: found.fetchone()
            )
        known = (None if isinstance(one, float) and not math.isfinite(one) else one for one in told)
        return {"image_id": image_id} | dict(zip(names, known, strict=True))

    def neighbours(self, row: int) -> dict[str, list[Any]]:
        """Rows of the nearest points, with their cosines, and those of other instruments, nearest first.

        Raises:
            ValueError: there is no such row.
        """
        with self._lock:
            table = self._one(row, NEAR)
        near, cosine, foreign = (part[0] for part in _near_arrays(table))
        there = near != NONE
        return {
            "near": near[there].tolist(),
            "cosine": [round(float(c), 4) for c in cosine[there]],
            "foreign": foreign[foreign != NONE].tolist(),
        }

    def neighbour_table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of all points: rows of the nearest, their cosines, rows of the nearest of other instruments."""
        with self._lock:
            return _near_arrays(self.atlas.table(NEAR))

    def search(self, text: str) -> list[int]:
        """Rows whose id, label or sample holds a text, whatever its case: whole matches first."""
        wanted = text.strip()
        if not wanted:
            return []
        holds = " OR ".join(f"contains(lower({c}), lower(?))" for c in ("image_id", "label", "sample"))
        order = f"ORDER BY lower(image_id) != lower(?), row LIMIT {MOST_FOUND}"
        query = f"SELECT row FROM atlas WHERE {holds} {order}"
        return [int(row) for row in self._rows(query, [wanted] * 4)]

    def rows_of(self, ids: Sequence[str] | pa.Array) -> Int64[np.ndarray, " K"]:
        """The row of each id; −1 where there is none."""
        wanted = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())
        with self._lock:
            found = pc.index_in(wanted, self._ids)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def link(self, other: "AskedAtlas") -> Int32[np.ndarray, " N"]:
        """The row of the same image in another atlas; −1 where it has none."""
        with self._lock:
            ids = self._ids
        return other.rows_of(ids).astype(np.int32)

    def mask(self, rows: Int64[np.ndarray, " K"]) -> UInt8[np.ndarray, " B"]:
        """One bit for each point, the first the lowest of its byte."""
        bits = np.zeros(self.rows, bool)
        bits[rows] = True
        return np.packbits(bits, bitorder="little")

    @cached_property
    def _unknown(self) -> set[str]:
        """Columns in which nothing is known of any point: a page leaves them out."""
        about, nulls = pq.read_metadata(self.atlas.path), Counter[str]()
        for group in range(about.num_row_groups):
            for place in range(about.num_columns):
                column = about.row_group(group).column(place)
                if column.statistics is not None and column.statistics.has_null_count:
                    nulls[column.path_in_schema] += column.statistics.null_count
        return {name for name, count in nulls.items() if count == self.rows}

    @cached_property
    def _ids(self) -> pa.Array:
        column = self.atlas.table(["image_id"])["image_id"]
        return pa.chunked_array(column.chunks, column.type).cast(pa.large_string()).combine_chunks()

    def _one(self, row: int, columns: Sequence[str]) -> pa.Table:
        """Columns of one point; only its row group is read."""
        if not 0 <= row < self.rows:
            raise ValueError(f"{WHO}: a row must be 0 to {self.rows - 1}, got {row}; give another")
        group = int(np.searchsorted(self._first, row, side="right")) - 1
        try:
            table = self._file.read_row_group(group, columns=list(columns))
        except (OSError, pa.ArrowInvalid) as error:
            said = " ".join(str(error).split())[:160]
            raise ValueError(
                f"{WHO}: {self.atlas.path} must be readable, got {said}; build it again"
            ) from error
        return table.slice(row - int(self._first[group]), 1)

    def _rows(self, query: str, bound: list[Any]) -> Int64[np.ndarray, " K"]:
        with self._lock:
            found = self._asked(query, bound, lambda answer: answer.fetchnumpy()["row"])
        rows = np.asarray(found, np.int64)
        return rows if "LIMIT" in query else np.sort(rows)

    def _asked(self, query: str, bound: list[Any], fetch: Callable[[Any], Any]) -> Any:
        import duckdb

        try:
            return fetch(self._connection.execute(query, bound))
        except duckdb.Error as error:
            said = str(error).splitlines()[0][:160]
            raise ValueError(f"{WHO}: a question must fit the columns, got {said}; correct it") from error


def _as_json(name: str, kind: str) -> str:
    """A column as a page has it: words, numbers, days since 1970; as an expression of DuckDB."""
    if kind == NAMES:
        return (
            f'CASE WHEN "{name}" >= 0 THEN CAST("{name}" AS VARCHAR) END'
            if name == "cluster"
            else f'"{name}"'
        )
    return f'CAST(epoch_ms("{name}") / {MS_PER_DAY} AS FLOAT)' if kind == TIME else f'CAST("{name}" AS FLOAT)'


def _near_arrays(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours, cosines and foreign neighbours, a line for each row of the table."""
    near, cosine, foreign = (
        np.concatenate([part.flatten().to_numpy(zero_copy_only=False) for part in table[name].chunks])
        for name in NEAR
    )
    return near.reshape(-1, NEIGHBOURS), cosine.reshape(-1, NEIGHBOURS), foreign.reshape(-1, FOREIGN)
