"""Records to rows: pixels are loaded, described and spilled, chunk by chunk.

A `Decoder` works in one process; aqqua.store.crew runs many of them.
Test: tests/store/test_write.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from aqqua.instruments.record import Reason, Record, RejectedInputError
from aqqua.instruments.tree import Tree
from aqqua.store.rows import ORDERED_SCHEMA, SPILL_SCHEMA, row_of
from aqqua.store.shuffle import Spill, SpillFile, shuffled_order

CHUNK = 256  # records decoded at once, about 0.1 s of work

Chunk = tuple[Tree, list[Record]]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How records become rows."""

    seed: int  # of the shuffle
    keep_encoded: bool = False  # rows hold original image files instead of pixels, where they can


@dataclass(frozen=True, slots=True)
class Refused:
    """One row of quarantine.parquet."""

    input: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one chunk of records became."""

    accepted: int
    refused: dict[int, Refused]  # by place in the chunk


def refuse(tree: Tree, record: Record, reason: Reason, detail: str) -> Refused:
    return Refused(tree.label, record.source, reason, detail)


class Decoder:
    """Turns chunks of records into spilled rows, in this process."""

    def __init__(self, folder: Path, name: str, decoding: Decoding) -> None:
        self._decoding = decoding
        self._spill = Spill(folder, name, ORDERED_SCHEMA)

    def decode(self, tree: Tree, records: list[Record]) -> Decoded:
        rows: list[tuple[Any, ...]] = []
        refused: dict[int, Refused] = {}
        for place, record in enumerate(records):
            try:
                rows.append(row_of(tree, record, self._decoding.keep_encoded))
            except RejectedInputError as error:
                refused[place] = refuse(tree, record, error.reason, error.detail)
        if rows:
            self._spill.add(self._table(rows))
        return Decoded(len(rows), refused)

    def flush(self) -> None:
        """Write all rows, so that none is lost with this process."""
        self._spill.flush()

    def safe_files(self) -> list[SpillFile] | None:
        """The spill files if they hold every row so far, else None."""
        return None if self._spill.holds_rows else self._spill.files()

    def finish(self) -> list[SpillFile]:
        with self._spill:
            return self._spill.finish()

    def _table(self, rows: list[tuple[Any, ...]]) -> pa.Table:
        columns = [pa.array(v, f.type) for v, f in zip(zip(*rows, strict=True), SPILL_SCHEMA, strict=True)]
        key = columns[SPILL_SCHEMA.get_field_index("key")].to_numpy()
        columns.append(pa.array(shuffled_order(self._decoding.seed, key)))
        return pa.Table.from_arrays(columns, schema=ORDERED_SCHEMA)
