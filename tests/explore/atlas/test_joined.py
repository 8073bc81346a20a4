"""Other tables beside the points: matched by key, in any order, null where absent."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aqqua.explore.atlas import joined
from aqqua.explore.atlas.joined import joined_columns

COLUMNS = (("class", pa.string()), ("score", pa.float32()))
KEYS = np.array([7, 2**63 + 5, 1, 9], np.uint64)


def table_of(keys, **columns):
    return pa.table({"key": pa.array(keys, pa.uint64()), **columns})


@pytest.fixture
def predictions(tmp_path):
    words = pa.array(["b", "c", None, "z"]).dictionary_encode()
    table = table_of([1, 2**63 + 5, 7, 1000], score=pa.array([0.1, 0.2, None, 0.9]), **{"class": words})
    pq.write_table(table, tmp_path / "predictions.parquet", row_group_size=2)
    return tmp_path / "predictions.parquet"


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_matched_by_key(predictions, monkeypatch, batch):
    monkeypatch.setattr(joined, "BATCH_ROWS", batch)
    found = joined_columns(predictions, COLUMNS, KEYS)
    assert found["class"].to_pylist() == [None, "c", "b", None]
    assert found["score"].to_pylist() == pytest.approx([None, 0.2, 0.1, None])
    assert found["score"].type == pa.float32()


def test_refused(predictions, tmp_path):
    with pytest.raises(ValueError, match="must have the column carbon_pg, got none"):
        joined_columns(predictions, (("carbon_pg", pa.float32()),), KEYS)
    with pytest.raises(ValueError, match="about images of this dataset, got none"):
        joined_columns(predictions, COLUMNS, np.array([3, 4], np.uint64))
    with pytest.raises(ValueError, match="must be a Parquet file"):
        joined_columns(tmp_path / "nothing.parquet", COLUMNS, KEYS)
    pq.write_table(table_of([7, 7], score=pa.array([0.1, 0.2])), tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="each image once, got one twice"):
        joined_columns(tmp_path / "twice.parquet", COLUMNS[1:], KEYS)
