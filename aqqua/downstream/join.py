"""Rows of two tables side by side, by the key of the image, without holding either of them.

All tables come from one dataset and keep its order, so the second is read only as far as the first needs; it
may have more rows. Test: tests/downstream/test_joined_tables.py.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa


def joined(
    first: Iterable[pa.Table], second: Iterable[pa.Table], what: str
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Each table of `first` with the rows of `second` that have its keys, in its order.

    Args:
        first: tables with image_id and key.
        second: tables with key, in the same order of images.
        what: the second holds, for messages: "sizes".

    Raises:
        ValueError: an image has no row in the second, naming it.
    """
    others = iter(second)
    held: pa.Table | None = None
    for table in first:
        wanted = table["key"].to_numpy()
        at: np.ndarray | None = None
        while True:
            at = _places(wanted, held)
            missing = at < 0
            if not missing.any():
                break
            more = next(others, None)
            if more is None:
                row = int(np.flatnonzero(missing)[0])
                raise ValueError(
                    f"{what}: every image must have its {what}, in the order of the dataset, got none for "
                    f"{table['image_id'][row].as_py()}; make the {what} from the same dataset"
                )
            held = more if held is None else pa.concat_tables([held, more]).unify_dictionaries()
        if held is None:  # an empty table
            continue
        yield table, held.take(pa.array(at))
        held = held.slice(int(at.max()) + 1) if len(at) else held


def _places(wanted: np.ndarray, held: pa.Table | None) -> np.ndarray:
    """Row of each key, -1 where it is not there."""
    if held is None or not len(held):
        return np.full(len(wanted), -1, np.int64)
    keys = held["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys, wanted, sorter=order)
    rows = order[np.minimum(at, len(keys) - 1)]
    return np.where(keys[rows] == wanted, rows, -1)
