"""Spilled records: every pair of a cell within reach comes once, and memory is that of tiles."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.curate.copies import cells
from aqqua.curate.copies.cells import CellSpill

SMALL = np.dtype([("cell", "u8"), ("order", "f4"), ("row", "i8")])


def spilled(folder, cell, order) -> CellSpill:
    records = np.zeros(len(cell), SMALL)
    records["cell"], records["order"], records["row"] = cell, order, np.arange(len(cell))
    spill = CellSpill(folder, "test", SMALL, len(cell))
    for begin in range(0, len(cell), 3):
        spill.add(records[begin : begin + 3])
    return spill


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_every_pair_within_reach_comes_once(tmp_path_factory, records, tile, reach):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "TILE", tile)
        patch.setattr(cells, "BUCKET_BYTES", 100)
        patch.setattr(cells, "BUFFER_BYTES", 60)
        cell = np.array([c for c, _ in records], np.uint64)
        order = np.array([o for _, o in records], np.float32)
        spill = spilled(tmp_path_factory.mktemp("spill"), cell, order)
        seen = []
        for left, right, same in spill.tiles(reach):
            assert len(left) <= tile
            for i, a in enumerate(left):
                seen += [{int(a["row"]), int(b["row"])} for b in (right[i + 1 :] if same else right)]
    wanted = [
        {i, j}
        for i in range(len(records))
        for j in range(i)
        if cell[i] == cell[j] and abs(order[i] - order[j]) <= reach
    ]
    assert all(seen.count(pair) == 1 for pair in wanted)
    assert len({frozenset(pair) for pair in seen}) == len(seen)


def test_memory_does_not_hold_the_records(tmp_path):
    wide = np.dtype([*SMALL.descr, ("picture", "u1", 1000)])
    spill = CellSpill(tmp_path, "test", wide, 20000)
    for begin in range(0, 20000, 500):
        records = np.zeros(500, wide)
        records["row"], records["order"] = np.arange(begin, begin + 500), begin
        spill.add(records)
    spill.tiles(0)
    list(spill.sorted_buckets())
    tracemalloc.start()
    count = sum(1 for _ in spill.tiles(0.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count >= 20
    assert peak < 6e6  # of 20 MB: two tiles of 1 MB, and 32 bytes a record of the bucket while it is sorted
