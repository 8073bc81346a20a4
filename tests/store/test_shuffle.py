"""The out-of-core sort: any bucket size, any input order, one result."""

import numpy as np
import pyarrow as pa
import pytest

from aqqua.store import shuffle
from aqqua.store.shuffle import Spill, shuffled_order, sorted_tables

SCHEMA = pa.schema([("name", pa.string()), ("order", pa.uint64())])


def spill_and_sort(folder, order, batches):
    folder.mkdir()
    names = [f"row{value}" for value in order.tolist()]
    table = pa.Table.from_arrays([pa.array(names), pa.array(order)], schema=SCHEMA)
    with Spill(folder, "rows", SCHEMA) as spill:
        for start in range(0, len(table), batches):
            spill.add(table.slice(start, batches))
        files = spill.finish()
    assert sum(file.rows for file in files) == len(table)
    tables = list(sorted_tables(files, ["name"]))
    assert not list(folder.iterdir()), "spill files must go away once they are read"
    return pa.concat_tables(tables), len(tables)


@pytest.mark.parametrize("load_bytes", [1 << 30, 300])
def test_sorts_with_any_memory(tmp_path, monkeypatch, load_bytes):
    monkeypatch.setattr(shuffle, "LOAD_BYTES", load_bytes)
    monkeypatch.setattr(shuffle, "FLUSH_BYTES", 3_000)
    order = shuffled_order(0, np.arange(1_000, dtype=np.uint64))
    order = np.concatenate([order, order[:100], np.full(50, 7, np.uint64)])

    table, parts = spill_and_sort(tmp_path / "spill", order, batches=300)

    assert table["order"].to_pylist() == sorted(order.tolist())
    assert table["name"].to_pylist() == [f"row{value}" for value in sorted(order.tolist())]
    assert parts > 64 or load_bytes > 300


def test_order_is_a_bijection_that_depends_on_the_seed():
    key = np.arange(100_000, dtype=np.uint64)
    first, second = shuffled_order(0, key), shuffled_order(1, key)
    assert len(np.unique(first)) == len(key)
    assert (first != second).all()
    ranks = np.argsort(np.argsort(first)).astype(float)
    assert abs(np.corrcoef(np.arange(100_000), ranks)[0, 1]) < 0.01
