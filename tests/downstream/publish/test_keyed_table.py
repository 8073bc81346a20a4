"""Rows by key: in any order, over row groups, and only of the dataset asked for."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aqqua.downstream.publish.keyed_table import KeyedTable


@pytest.fixture
def path(tmp_path):
    keys = np.random.default_rng(0).permutation(40).astype(np.uint64) * 2**58
    table = pa.table({
        "image_id": [f"i{key}" for key in keys], "key": keys, "value": keys.astype(float),
        "word": pa.array([f"w{key % 3}" for key in keys]).dictionary_encode(),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=3)
    return tmp_path / "table.parquet"


def test_rows_in_the_order_asked_for(path):
    opened = KeyedTable(path, ("value", "word"), "test")
    assert len(opened) == 40
    wanted = np.array([39, 0, 17, 100, 3, 63], np.uint64) * np.uint64(2**58)  # 100 · 2^58 wraps around to 36
    wanted[3] = 7  # no image of the table
    rows = opened.take(wanted, [f"i{key}" for key in wanted]).to_pylist()
    for key, row in zip(wanted.tolist(), rows, strict=True):
        known = key % 2**58 == 0 and key // 2**58 < 40
        assert row["value"] == (float(key) if known else None)
        assert row["image_id"] == (f"i{key}" if known else None)


def test_no_image_at_all(path):
    assert len(KeyedTable(path, ("value",), "test").take(np.zeros(0, np.uint64), [])) == 0


def test_another_image_of_the_same_key_is_an_error(path):
    with pytest.raises(ValueError, match="must be of this dataset, got the image 'i0' for 'other'"):
        KeyedTable(path, ("value",), "test").take(np.zeros(1, np.uint64), ["other"])


def test_wrong_tables(path, tmp_path):
    with pytest.raises(ValueError, match=r"must have the columns \['no'\]"):
        KeyedTable(path, ("no",), "test")
    twice = pa.table({"image_id": ["a", "b", "a"], "key": pa.array([5, 1, 5], pa.uint64())})
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="got the one of row 1 again in row 3"):
        KeyedTable(tmp_path / "twice.parquet", (), "test")
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(ValueError, match="must be a Parquet file"):
        KeyedTable(tmp_path / "no.parquet", (), "test")
