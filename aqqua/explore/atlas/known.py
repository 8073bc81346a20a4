"""What the dataset and other tables say of the points, kept while an atlas is made.

Letter key: N points. Test: tests/explore/atlas/test_build.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64

from aqqua.explore.atlas.joined import joined_columns
from aqqua.explore.atlas.table import RANKS
from aqqua.store.read import Dataset

Lineages = Mapping[str, Sequence[str | None]]  # label -> a name or None for each of the seven ranks

TABLES: dict[str, tuple[tuple[str, pa.DataType], ...]] = {
    "predictions": (("class", pa.string()), ("score", pa.float32())),
    "sizes": (("esd_um", pa.float32()), ("area_um2", pa.float32()), ("volume_sphere_um3", pa.float32())),
    "carbon": (("carbon_pg", pa.float32()),),
}


@dataclass(frozen=True)
class Known:
    """Key, instrument and label of each point, in numbers; columns from other tables."""

    row_N: Int64[np.ndarray, " N"]  # in the dataset, ascending
    key_N: UInt64[np.ndarray, " N"]
    instrument_N: Int64[np.ndarray, " N"]  # number in `instruments`
    label_N: Int64[np.ndarray, " N"]  # -1 none
    instruments: tuple[str, ...]
    joined: dict[str, pa.Array]  # of TABLES; null where there is no table

    def __len__(self) -> int:
        return len(self.row_N)

    @staticmethod
    def read(dataset: Dataset, row_N: Int64[np.ndarray, " N"], tables: Mapping[str, Path]) -> "Known":
        """
        Args:
            tables: by their names in TABLES.

        Raises:
            ValueError: a table does not fit.
        """
        keys, instruments, labels = [], [], []
        for block, inside in by_block(dataset, row_N):
            table = dataset.table(["key", "instrument", "label"], [block]).take(pa.array(inside))
            keys.append(table["key"].to_numpy())
            instruments.append(table["instrument"].combine_chunks().dictionary_decode())
            labels.append(table["label"].combine_chunks())
        key_N = np.concatenate(keys)
        instrument, label = pa.chunked_array(instruments), pa.chunked_array(labels)
        names, instrument_N = _numbered(instrument)
        joined: dict[str, pa.Array] = {}
        for name, columns in TABLES.items():
            if name in tables:
                joined |= joined_columns(tables[name], columns, key_N)
            else:
                joined |= {column: pa.nulls(len(key_N), kind) for column, kind in columns}
        return Known(row_N, key_N, instrument_N, _numbered(label)[1], names, joined)


def by_block(dataset: Dataset, row_N: Int64[np.ndarray, " N"]) -> list[tuple[int, Int64[np.ndarray, " I"]]]:
    """Blocks that hold some of the rows, and which of their images those are."""
    if not len(row_N):
        return []
    block_N, inside_N = np.divmod(row_N, dataset.rows_of(0))  # every block but the last is full
    blocks, first = np.unique(block_N, return_index=True)
    return list(zip(blocks.tolist(), np.split(inside_N, first[1:]), strict=True))


def ranks_of(labels: pa.ChunkedArray, lineages: Lineages) -> dict[str, pa.Array]:
    """A column for each rank; null for a label that the map does not have or leaves out.

    Raises:
        ValueError: a lineage has not a name or None for each rank.
    """
    for label, lineage in lineages.items():
        if len(lineage) != len(RANKS):
            raise ValueError(
                f"atlas: a lineage must have {len(RANKS)} ranks, got {len(lineage)} for {label}; correct the "
                "label map"
            )
    nothing = (None,) * len(RANKS)
    found = [lineages.get(label, nothing) for label in labels.to_pylist()]
    return {name: pa.array([one[r] for one in found], pa.string()) for r, name in enumerate(RANKS)}


def _numbered(words: pa.ChunkedArray) -> tuple[tuple[str, ...], Int64[np.ndarray, " N"]]:
    """All different words, sorted, and the number of each row's; -1 for null."""
    encoded = words.combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names.astype(str), kind="stable") if len(names) else np.zeros(0, np.int64)
    number = np.empty(len(names) + 1, np.int64)
    number[order] = np.arange(len(names))
    number[-1] = -1
    index = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return tuple(names[order].tolist()), number[index]
