"""What other tables know of the points: predictions, sizes, carbon, matched by the key of the image.

Such a table is read a batch at a time; memory is that of the points. An image that it does not have gets
null. Test: tests/explore/atlas/test_joined.py.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt64

BATCH_ROWS = 65_536


def joined_columns(
    path: Path, columns: Sequence[tuple[str, pa.DataType]], key_N: UInt64[np.ndarray, " N"]
) -> dict[str, pa.Array]:
    """Columns of a table, one value for each point.

    Args:
        columns: names and the types they get.
        key_N: of the points, all different.

    Raises:
        ValueError: the file is no Parquet file, lacks `key` or a column, has an image twice, or knows none of
            the points.
    """
    order_N = np.argsort(key_N)
    sorted_N = key_N[order_N]
    place_N = np.full(len(key_N), -1, np.int64)  # of each point among what was found
    found: list[pa.Table] = []
    kept = 0
    for batch in _batches(path, [name for name, _ in columns]):
        key_I = batch["key"].to_numpy().astype(np.uint64, copy=False)
        at_I = np.searchsorted(sorted_N, key_I).clip(max=len(key_N) - 1)
        mine_I = np.flatnonzero(sorted_N[at_I] == key_I)
        point_I = order_N[at_I[mine_I]]
        if (place_N[point_I] >= 0).any() or len(np.unique(point_I)) != len(point_I):
            raise ValueError(f"atlas: {path} must have each image once, got one twice; make the table again")
        place_N[point_I] = kept + np.arange(len(point_I))
        kept += len(point_I)
        found.append(batch.take(pa.array(mine_I)))
    if not kept:
        raise ValueError(
            f"atlas: {path} must be about images of this dataset, got none of them; give the table made from "
            "it"
        )
    taken = pa.array(place_N, mask=place_N < 0)
    table = pa.concat_tables(found)
    return {name: _plain(table[name]).cast(kind).take(taken).combine_chunks() for name, kind in columns}


def _batches(path: Path, names: list[str]) -> Iterator[pa.Table]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"atlas: {path} must be a Parquet file, got {error}; give another") from error
    with file:
        lacking = [name for name in ("key", *names) if name not in file.schema_arrow.names]
        if lacking:
            raise ValueError(f"atlas: {path} must have the column {lacking[0]}, got none; give another table")
        for batch in file.iter_batches(BATCH_ROWS, columns=["key", *names]):
            yield pa.table({name: _plain(batch[name]) for name in ("key", *names)})


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Words instead of numbers of words."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
