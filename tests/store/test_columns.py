"""Columns beside a dataset: what is written is read, and what does not fit is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aqqua.store.columns import MANIFEST, Columns, write_columns
from aqqua.store.read import Dataset

FIELDS = [pa.field("number", pa.int64(), False)]


def write(dataset: Dataset, out: Path, rows: int = 0) -> Path:
    def table_of(block: int) -> pa.Table:
        first = 64 * block
        return pa.table({"number": np.arange(first, first + dataset.rows_of(block) + rows)})

    with write_columns(out, dataset, "numbers", FIELDS, {"how": "counted"}, "count") as writer:
        for part in reversed(range(dataset.parts)):
            writer.write_part(part, table_of)
    return out


def test_row_i_of_block_b_is_image_i_of_block_b(make_dataset, tmp_path):
    dataset = make_dataset()
    columns = Columns.open(write(dataset, tmp_path / "out"), dataset, "numbers")
    for block in range(dataset.blocks):
        table = columns.block(block, ["number", "key"])
        assert table["key"].to_pylist() == dataset.sizes(block).key.tolist()
        assert table["number"].to_pylist() == list(range(64 * block, 64 * block + dataset.rows_of(block)))
    assert columns.facts == {"how": "counted"}
    assert columns.verify() == []
    assert columns.schema.names == ["key", "number"]


def test_the_folder_is_one_table_for_any_parquet_tool(make_dataset, tmp_path):
    dataset = make_dataset()
    table = pq.read_table(write(dataset, tmp_path / "out"))
    assert sorted(table["number"].to_pylist()) == list(range(dataset.rows))


def test_nothing_is_left_when_a_table_does_not_fit(make_dataset, tmp_path):
    dataset = make_dataset()
    with pytest.raises(ValueError, match=r"a row for each of the \d+ images of block \d+, got"):
        write(dataset, tmp_path / "out", rows=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]


def test_every_part_must_be_written(make_dataset, tmp_path):
    dataset = make_dataset()
    with (
        pytest.raises(ValueError, match=r"every part must be written, got no part-00000\.parquet"),
        write_columns(tmp_path / "out", dataset, "numbers", FIELDS, {}, "count"),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_columns_of_another_dataset_or_kind_are_refused(make_dataset, tmp_path):
    dataset, other = make_dataset(), make_dataset(200, "other")
    out = write(dataset, tmp_path / "out")
    with pytest.raises(ValueError, match="must be of the dataset"):
        Columns.open(out, other, "numbers")
    with pytest.raises(ValueError, match="must hold weights, got numbers"):
        Columns.open(out, dataset, "weights")
    with pytest.raises(ValueError, match=r"must hold _columns\.json"):
        Columns.open(dataset.path, dataset, "numbers")


def test_any_changed_byte_of_the_manifest_is_refused(make_dataset, tmp_path):
    dataset = make_dataset()
    out = write(dataset, tmp_path / "out")
    manifest = json.loads((out / MANIFEST).read_text())
    for change in ({"rows": 7}, {"facts": {}}, {"version": 2}, {"parts": []}, {"more": 1}):
        (out / MANIFEST).write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ValueError, match=r"columns: "):
            Columns.open(out, dataset, "numbers")


def test_a_damaged_part_is_named(make_dataset, tmp_path):
    dataset = make_dataset()
    out = write(dataset, tmp_path / "out")
    columns, part = Columns.open(out, dataset, "numbers"), out / dataset.part_name(0)
    data = bytearray(part.read_bytes())
    data[20] ^= 1
    part.write_bytes(data)
    assert columns.verify() == [part.name]
    with pytest.raises(ValueError, match=rf"{part.name} must be readable"):
        columns.block(0, ["number", "key"])
    part.unlink()
    with pytest.raises(ValueError, match=rf"every part must be there, got no .*{part.name}"):
        Columns.open(out, dataset, "numbers")
